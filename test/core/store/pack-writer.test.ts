import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { appendFileSync, mkdirSync, readdirSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { MAX_PACKS, PACK_BYTES, PACK_HEADER, packPath } from "../../../core/store/pack.ts";
import { PackWriter } from "../../../core/store/pack-writer.ts";
import { failure, type TempFolder, tempFolder } from "./contents.ts";
import { digestsOf, groupOf, packBytes, scan, writePack } from "./packs.ts";

let folder: TempFolder;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

describe("a writer", () => {
  test("goes on behind what is right, and cuts off what a crash has left", async () => {
    const group = fc.array(fc.nat(40), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(group, { minLength: 1, maxLength: 4 }),
        fc.array(group, { minLength: 1, maxLength: 3 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.oneof(fc.constant(new Uint8Array(0)), fc.uint8Array({ maxLength: 9000 })),
        async (before, after, share, tail) => {
          using folder = tempFolder();
          const path = packPath(folder.path, 1);
          const offsets = await writePack(folder.path, 1, before);
          truncateSync(path, PACK_HEADER + Math.floor(share * (offsets.at(-1)! - PACK_HEADER)));
          appendFileSync(path, tail);
          const { groups, end } = await scan(path);
          const writer = new PackWriter(folder.path, 1, end);
          for (const numbers of after) await writer.append(await groupOf(numbers));
          await writer.sync();
          await writer.close();
          const found = await scan(path);
          expect([found.end, found.size]).toEqual([writer.position.offset, writer.position.offset]);
          const kept = [...before.slice(0, groups.length), ...after];
          expect(Buffer.compare(found.digests, digestsOf(kept))).toBe(0);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("that writes nothing changes nothing", async () => {
    await writePack(folder.path, 1, [[0]]);
    const before = packBytes(folder.path, 1);
    const writer = new PackWriter(folder.path, 1, PACK_HEADER);
    await writer.sync();
    await writer.close();
    expect(Buffer.compare(packBytes(folder.path, 1), before)).toBe(0);
    const other = new PackWriter(folder.path, 2, 0);
    await other.sync();
    await other.close();
    expect(readdirSync(folder.path)).toEqual(["00001.pack"]);
  });

  test("begins another pack where one is full", async () => {
    const [, end] = await writePack(folder.path, 1, [[0]]);
    truncateSync(packPath(folder.path, 1), PACK_BYTES);
    const almost = new PackWriter(folder.path, 1, PACK_BYTES - 1);
    // It has room for one more, whatever that takes.
    expect(await almost.append(await groupOf([1]))).toEqual({ pack: 1, offset: PACK_BYTES - 1 });
    expect(await almost.append(await groupOf([2]))).toEqual({ pack: 2, offset: PACK_HEADER });
    expect(await almost.append(await groupOf([4]))).toMatchObject({ pack: 2 });
    await almost.sync();
    await almost.close();
    expect((await scan(packPath(folder.path, 1))).end).toBe(end!);
    expect(Buffer.compare((await scan(packPath(folder.path, 2))).digests, digestsOf([[2], [4]]))).toBe(0);
    expect(statSync(packPath(folder.path, 2)).mode & 0o777).toBe(0o600);
  });

  test("says so where the last number is taken", async () => {
    expect([MAX_PACKS, PACK_BYTES]).toEqual([65_535, 512 * 2 ** 20]);
    const error = await failure(new PackWriter(folder.path, MAX_PACKS + 1, 0).append(await groupOf([0])));
    expect(error.code).toBe("space");
    expect(error.message).toContain("prune --repack");
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("takes no file that it did not make, and follows no link", async () => {
    writeFileSync(packPath(folder.path, 1), "mine");
    expect((await failure(new PackWriter(folder.path, 1, 0).append(await groupOf([0])))).code).toBe("exists");
    expect(packBytes(folder.path, 1).toString()).toBe("mine");
    await writePack(folder.path, 3, [[0]]);
    symlinkSync(packPath(folder.path, 3), packPath(folder.path, 2));
    const error = await failure(new PackWriter(folder.path, 2, PACK_HEADER).append(await groupOf([2])));
    expect(error.code).toBe("input");
    expect(Buffer.compare((await scan(packPath(folder.path, 3))).digests, digestsOf([[0]]))).toBe(0);
  });

  test("that could not begin may be asked again", async () => {
    const nowhere = join(folder.path, "nowhere");
    const writer = new PackWriter(nowhere, 1, 0);
    expect((await failure(writer.append(await groupOf([0])))).code).toBe("input");
    expect(writer.position).toEqual({ pack: 1, offset: 0 });
    mkdirSync(nowhere);
    expect(await writer.append(await groupOf([0]))).toEqual({ pack: 1, offset: PACK_HEADER });
    await writer.close();
    expect(Buffer.compare((await scan(packPath(nowhere, 1))).digests, digestsOf([[0]]))).toBe(0);
  });

  test("cuts back what it has appended, and nothing that was there before", async () => {
    await writePack(folder.path, 1, [[0], [2]]);
    const before = packBytes(folder.path, 1);
    truncateSync(packPath(folder.path, 1), PACK_BYTES);
    const full = new PackWriter(folder.path, 1, PACK_BYTES);
    await full.append(await groupOf([4]));
    const behind = full.position;
    await full.append(await groupOf([6]));
    await full.cutBack(behind);
    expect(packBytes(folder.path, 2).length).toBe(behind.offset);
    expect(statSync(packPath(folder.path, 1)).size).toBe(PACK_BYTES);
    // Back into the pack before, and to where it began one itself.
    truncateSync(packPath(folder.path, 1), before.length);
    const second = new PackWriter(folder.path, 2, behind.offset);
    await second.append(await groupOf([8]));
    await second.cutBack({ pack: 2, offset: behind.offset });
    expect(packBytes(folder.path, 2).length).toBe(behind.offset);
    const third = new PackWriter(folder.path, 3, 0);
    await third.append(await groupOf([10]));
    await third.cutBack({ pack: 3, offset: 0 });
    // One that it could not make is not its own.
    const taken = new PackWriter(folder.path, 1, 0);
    expect((await failure(taken.append(await groupOf([10])))).code).toBe("exists");
    await taken.cutBack({ pack: 1, offset: 0 });
    expect(readdirSync(folder.path).sort()).toEqual(["00001.pack", "00002.pack"]);
    expect(Buffer.compare(packBytes(folder.path, 1), before)).toBe(0);
  });
});
