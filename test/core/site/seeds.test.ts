import { expect, test } from "bun:test";
import { Seeds } from "../../../core/site/seeds.ts";

test("1024 seeds may be named, and no more", async () => {
  const open = (count: number) =>
    Seeds.open(new Array<string>(count).fill("/nowhere/base.raw"), undefined, AbortSignal.abort());
  // So many are looked for, and not found.
  await expect(open(1024)).rejects.toMatchObject({ code: "input" });
  await expect(open(1025)).rejects.toMatchObject({ code: "usage", message: "At most 1024 seeds, not 1025" });
});
