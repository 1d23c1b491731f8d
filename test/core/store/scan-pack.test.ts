import { expect, test } from "bun:test";
import { truncateSync } from "node:fs";
import { GROUP_CONTENTS } from "../../../core/store/group.ts";
import { packPath, scanPack } from "../../../core/store/pack.ts";
import { range, tempFolder } from "./contents.ts";
import { writePack } from "./packs.ts";

/** More than are read at once, which is the length of the largest group there may be. */
const GROUPS = 12;

test.each([
  ["all of it", 1, true],
  ["what is left of one that is cut short meanwhile", 1 / 4, false],
])("a pack is read on from what was read ahead: %s", async (_, left, whole) => {
  using folder = tempFolder();
  await writePack(
    folder.path,
    1,
    range(0, GROUPS).map((group) => range(group * GROUP_CONTENTS, GROUP_CONTENTS)),
  );
  const path = packPath(folder.path, 1);
  const read = { end: 0, size: 0 };
  const found: boolean[] = [];
  for await (const group of scanPack(path, 0, read)) {
    if (found.length === 0) truncateSync(path, Math.floor(left * read.size));
    found.push(group.whole);
  }
  // Of the one that the first read had not all of there is no more.
  expect(found.length === GROUPS).toBe(whole);
  expect(found.indexOf(false)).toBe(whole ? -1 : found.length - 1);
});
