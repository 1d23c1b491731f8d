import { expect, test } from "bun:test";
import { openGroups } from "../../../core/store/open-groups.ts";
import { packPath, type ScannedGroup, scanPack } from "../../../core/store/pack.ts";
import { range, tempFolder } from "./contents.ts";
import { writePack } from "./packs.ts";

test("four groups are opened at once, in their order: the scan waits", async () => {
  using folder = tempFolder();
  await writePack(
    folder.path,
    1,
    range(0, 12).map((number) => [number]),
  );
  let scanned = 0;
  async function* scan(): AsyncGenerator<ScannedGroup> {
    for await (const group of scanPack(packPath(folder.path, 1), 0, { end: 0, size: 0 })) {
      scanned++;
      yield group;
    }
  }
  const ahead: number[] = [];
  let opened = 0;
  for await (const { right, why } of openGroups(scan())) {
    ahead.push(scanned - opened++);
    expect([right[0], why]).toEqual([1, undefined]);
  }
  expect(ahead).toEqual([4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 2, 1]);
});
