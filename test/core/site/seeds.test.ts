import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Seeds } from "../../../core/site/seeds.ts";
import { contents, range, tempFolder } from "../store/contents.ts";

test("1024 seeds may be named, and no more", async () => {
  const open = (count: number) =>
    Seeds.open(new Array<string>(count).fill("/nowhere/base.raw"), undefined, AbortSignal.abort());
  // So many are looked for, and not found.
  await expect(open(1024)).rejects.toMatchObject({ code: "input" });
  await expect(open(1025)).rejects.toMatchObject({ code: "usage", message: "At most 1024 seeds, not 1025" });
});

test("a seed takes 28 bytes a distinct chunk", async () => {
  using folder = tempFolder();
  const path = join(folder.path, "base.raw");
  const { pages } = contents(range(0, 100));
  writeFileSync(path, Buffer.concat([pages, pages]));
  const seeds = await Seeds.open([path], undefined, new AbortController().signal);
  expect(seeds.tables.map(({ records }) => records.byteLength)).toEqual([100 * 28]);
  seeds.close();
});
