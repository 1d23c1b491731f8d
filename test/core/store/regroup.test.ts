import { expect, test } from "bun:test";
import { statSync } from "node:fs";
import { packPath } from "../../../core/store/pack.ts";
import { PackWriter } from "../../../core/store/pack-writer.ts";
import { Regrouper } from "../../../core/store/regroup.ts";
import { contents, range, tempFolder } from "./contents.ts";
import { scan } from "./packs.ts";

test("groups are of 1024 contents, and reading waits while four are on their way", async () => {
  using folder = tempFolder();
  const writer = new PackWriter(folder.path, 1, 0);
  const regrouper = new Regrouper(writer, 1);
  const { digests, pages } = contents(range(0, 512, 2));
  const begun: number[] = [];
  for (let group = 0; group < 5; group++) {
    for (let i = 0; i < 1024; i++) regrouper.add(digests, pages, i % 256);
    await regrouper.room();
    begun.push(writer.position.offset);
  }
  // With the fourth it waits for the first, and so on: nothing is written before, as nothing else was waited for.
  expect(begun.map((offset) => offset > 0)).toEqual([false, false, false, true, true]);
  await regrouper.finish();
  await writer.close();
  const path = packPath(folder.path, 1);
  const { groups, digests: found, size } = await scan(path);
  expect([groups.length, found.length / 32, size]).toEqual([5, 5 * 1024, statSync(path).size]);
});
