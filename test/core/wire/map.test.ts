import { expect, test } from "bun:test";
import { pack } from "msgpackr";
import * as v from "valibot";
import { decodeMap } from "../../../core/wire/map.ts";

test("an error quotes 200 bytes of what came, on one line", () => {
  const schema = v.object({ kind: v.picklist(["a"]) });
  const why = (kind: string) => {
    try {
      decodeMap(schema, pack({ kind }), "A map");
    } catch (error) {
      return (error as Error).message.slice("A map has a bad kind: ".length);
    }
    return "";
  };
  const around = why("").length;
  expect(why("x".repeat(200 - around))).toHaveLength(200);
  expect(why("x".repeat(5000))).toHaveLength(200);
  expect(why("x\n\u001b[2J")).toMatch(/^[ -~]+$/);
});
