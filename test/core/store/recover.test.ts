import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import type { PrefixTable } from "../../../core/index/prefix-table.ts";
import { PACK_HEADER, packHeader, packPath } from "../../../core/store/pack.ts";
import { recover } from "../../../core/store/recover.ts";
import { contents, DIGEST, failure, flipped, type TempFolder, tempFolder } from "./contents.ts";
import { packBytes, writePack } from "./packs.ts";

let folder: TempFolder;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

/** Recovers; returns what was told of damage as well. */
async function recovered(covered: Iterable<readonly [number, number]> = [], path = folder.path) {
  const told: string[] = [];
  const { run, last } = await recover(path, new Map(covered), ({ message }) => told.push(message));
  return { table: run?.table, covered: run && Object.fromEntries(run.covered), last, told };
}

/** Where a table says that contents are: `pack:offset:slot`. */
function places(table: PrefixTable | undefined, numbers: readonly number[]): (string | undefined)[] {
  const { digests } = contents(numbers);
  return numbers.map((_, i) => {
    const found = table?.find(digests, i * DIGEST) ?? -1;
    if (found < 0) return undefined;
    const offset = table!.offsetAt(found);
    return `${table!.fileAt(found)}:${Math.floor(offset / 65_536)}:${offset % 65_536}`;
  });
}

describe("recovery", () => {
  test("finds what lies behind what the index covers, and nothing else", async () => {
    const one = await writePack(folder.path, 1, [[0, 2], [4]]);
    const two = await writePack(folder.path, 2, [[6], [8, 10]]);
    const nothing = await recovered([
      [1, one[2]!],
      [2, two[2]!],
    ]);
    expect(nothing).toEqual({ table: undefined, covered: undefined, last: { number: 2, end: two[2]! }, told: [] });
    const some = await recovered([
      [1, one[2]!],
      [2, two[1]!],
    ]);
    expect(places(some.table, [0, 4, 6, 8, 10])).toEqual([
      undefined,
      undefined,
      undefined,
      `2:${two[1]}:0`,
      `2:${two[1]}:1`,
    ]);
    expect(some.covered).toEqual({ 2: two[2]! });
    const all = await recovered();
    expect(places(all.table, [2, 4])).toEqual([`1:${one[0]}:1`, `1:${one[1]}:0`]);
    expect(all.covered).toEqual({ 1: one[2]!, 2: two[2]! });
    expect(all.table!.count).toBe(6);
  });

  test("of nothing is nothing", async () => {
    expect(await recovered()).toEqual({ table: undefined, covered: undefined, last: undefined, told: [] });
    expect((await failure(recovered([], `${folder.path}/none`))).code).toBe("input");
  });

  test("stops at a torn tail, wherever it is torn, and says from where to go on", async () => {
    const group = fc.array(fc.nat(30), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(group, { minLength: 1, maxLength: 4 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (groups, share) => {
          using folder = tempFolder();
          const offsets = await writePack(folder.path, 3, groups);
          const cut = PACK_HEADER + Math.floor(share * (offsets.at(-1)! - PACK_HEADER));
          truncateSync(packPath(folder.path, 3), cut);
          const ends = [PACK_HEADER, ...offsets.slice(1).filter((end) => end <= cut)];
          const known = await recovered([[3, PACK_HEADER]], folder.path);
          expect([known.last, known.told]).toEqual([{ number: 3, end: ends.at(-1)! }, []]);
          // Without an index it may be damage as well.
          const { table, last, told } = await recovered([], folder.path);
          expect([last, told]).toEqual([{ number: 3, end: ends.at(-1)! === cut ? cut : 0 }, []]);
          const kept = new Set(groups.slice(0, ends.length - 1).flat());
          expect(table?.count ?? 0).toBe(kept.size);
          if (places(table, [...kept]).includes(undefined)) throw new Error("a whole group is not found");
        },
      ),
      { numRuns: 40 },
    );
  });

  test("takes no content of a group that was not written whole, though others follow", async () => {
    const offsets = await writePack(folder.path, 1, [[0], [2, 4], [6]]);
    writeFileSync(packPath(folder.path, 1), flipped(packBytes(folder.path, 1), offsets[2]! - 1));
    const { table, last, covered } = await recovered();
    expect(places(table, [0, 2, 4, 6])).toEqual([`1:${offsets[0]}:0`, undefined, undefined, `1:${offsets[2]}:0`]);
    expect([last, covered]).toEqual([{ number: 1, end: offsets[3]! }, { 1: offsets[3]! }]);
  });

  test("passes over packs that never began: the next one is another", async () => {
    await writePack(folder.path, 1, [[0]]);
    writeFileSync(packPath(folder.path, 2), "");
    expect(await recovered()).toMatchObject({ last: { number: 2, end: 0 }, told: [] });
    writeFileSync(packPath(folder.path, 2), packHeader().subarray(0, 9));
    const found = await recovered();
    expect(found).toMatchObject({ last: { number: 2, end: 0 }, covered: { 1: expect.any(Number) } });
    expect(found.told.join()).toContain(packPath(folder.path, 2));
  });

  test("takes nothing from a pack whose beginning is damaged, and appends nothing to it", async () => {
    const offsets = await writePack(folder.path, 1, [[0], [2]]);
    await writePack(folder.path, 2, [[4]]);
    const whole = packBytes(folder.path, 1);
    writeFileSync(packPath(folder.path, 1), flipped(whole, 3));
    const { table, told } = await recovered();
    expect(places(table, [0, 2, 4])).toEqual([undefined, undefined, `2:${PACK_HEADER}:0`]);
    expect(told.length).toBe(1);
    // Where the index has some of it, the rest is found as before; but what is written goes elsewhere.
    writeFileSync(packPath(folder.path, 3), flipped(whole, 3));
    const other = await recovered([
      [1, offsets[2]!],
      [3, offsets[1]!],
    ]);
    expect(places(other.table, [2])).toEqual([`3:${offsets[1]}:0`]);
    expect(other.last).toEqual({ number: 3, end: 0 });
    expect(other.told.length).toBe(2);
  });

  test("appends nothing to a pack that is cut short: it would lie behind a hole", async () => {
    const offsets = await writePack(folder.path, 1, [[0], [2], [4]]);
    truncateSync(packPath(folder.path, 1), offsets[2]! + 1);
    const { last, told, table } = await recovered([[1, offsets[3]!]]);
    expect([last, table]).toEqual([{ number: 1, end: 0 }, undefined]);
    expect(told.join()).toContain("cut short");
  });

  test("refuses another version, whether the index has the pack or not", async () => {
    const [, end] = await writePack(folder.path, 1, [[0]]);
    const bytes = packBytes(folder.path, 1);
    bytes.writeUInt16LE(2, 8);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 12)), 12);
    writeFileSync(packPath(folder.path, 1), bytes);
    expect((await failure(recovered())).code).toBe("refused");
    expect((await failure(recovered([[1, end!]]))).code).toBe("refused");
  });

  test("ignores what an index could not name", async () => {
    const [, end] = await writePack(folder.path, 65_535, [[2]]);
    const bytes = packBytes(folder.path, 65_535);
    for (const number of [0, 65_536, 99_999]) writeFileSync(packPath(folder.path, number), bytes);
    const { table, last } = await recovered();
    expect([table!.count, last]).toEqual([1, { number: 65_535, end: end! }]);
  });

  test("says so of a pack that can't be read", async () => {
    mkdirSync(packPath(folder.path, 1));
    expect((await failure(recovered())).code).toBe("input");
  });
});
