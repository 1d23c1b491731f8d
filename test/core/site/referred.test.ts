import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { findReferred } from "../../../core/site/referred.ts";
import { NumberSet } from "../../../core/store/number-set.ts";
import { memoryTarget, record, replay, source } from "../../support/session.ts";
import { content } from "../store/contents.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "shrinker-referred-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const machine = (pages: readonly number[]) =>
  Buffer.concat([...pages.map((number) => content(number).page), Buffer.from("end")]);

/** Records a machine; the path of the recording, and its bytes. */
async function recorded(pages: readonly number[]) {
  const bytes = Buffer.from(await record([source("machine", "raw", [machine(pages)])]));
  const path = join(folder, "recording");
  writeFileSync(path, bytes);
  return { path, bytes };
}

/** A batch has at most 256 new contents, so what is behind these is in another than the first ones. */
const SURE = 40;
const first = Array.from({ length: 300 }, (_, i) => i);

describe("what a recording refers to", () => {
  test("is what comes again in a later batch, and it is received whole with nothing else kept", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(320), { maxLength: 40 }), async (again) => {
        const pages = [...first, ...again];
        const { path, bytes } = await recorded(pages);
        const referred = (await findReferred(path))!;
        for (let number = 0; number < SURE; number++) expect(referred.has(number)).toBe(again.includes(number));
        for (let number = SURE; number < 330; number++) if (referred.has(number)) expect(again).toContain(number);
        const target = memoryTarget();
        const { streams } = await replay(bytes, target, { referred });
        expect(streams[0]!.error).toBe(undefined);
        expect(Buffer.compare(target.get("machine").bytes, machine(pages))).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  test("is refused where it is not what was said", async () => {
    const { bytes } = await recorded([...first, 4, 5]);
    const target = memoryTarget();
    const error = await replay(bytes, target, { referred: new NumberSet() }).then(
      ({ streams }) => streams[0]!.error,
      (error) => error,
    );
    expect(error.code).toBe("integrity");
    expect(error.message).toContain("changed");
    expect(target.get("machine").ends).toEqual(["abort"]);
  });

  test("is not told of one that is damaged, cut short in a frame, or not there", async () => {
    const { path, bytes } = await recorded([...first, 4]);
    writeFileSync(path, bytes.subarray(0, bytes.length >> 1));
    expect(await findReferred(path)).toBe(undefined);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    expect(await findReferred(path)).toBe(undefined);
    expect(await findReferred(join(folder, "none"))).toBe(undefined);
  });
});
