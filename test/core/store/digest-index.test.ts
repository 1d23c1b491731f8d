import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { contents, DIGEST, failure, flipped, range, type TempFolder, tempFolder } from "./contents.ts";

let folder: TempFolder;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

const LAST = 120;
const all = contents(range(0, LAST));

/** Opens the index; `told` is what was said of damage. */
async function open(path = folder.path): Promise<{ index: DigestIndex; told: string[] }> {
  const told: string[] = [];
  const index = await DigestIndex.open(path, ({ message }) => told.push(message));
  return { index, told };
}

/** Adds contents by their numbers, all in one group. */
async function add(index: DigestIndex, numbers: readonly number[], pack: number, searched = false): Promise<void> {
  const builder = DigestIndex.builder();
  for (const [slot, number] of numbers.entries())
    DigestIndex.put(builder, all.digests, number * DIGEST, { pack, offset: pack * 100 }, slot);
  await index.add(builder.build(), new Map([[pack, pack * 100 + 50]]), searched);
}

/** Where each content is, as text. */
function finds(index: DigestIndex): (string | undefined)[] {
  return range(0, LAST).map((number) =>
    index.find(all.digests, number * DIGEST) ? `${index.pack}:${index.offset}:${index.slot}` : undefined,
  );
}

const runs = () => readdirSync(folder.path).sort();

describe("an index", () => {
  test("finds what a map would, through additions, merges and reopening", async () => {
    const numbers = fc.uniqueArray(fc.nat(LAST - 1), { minLength: 1, maxLength: 30 });
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant("add" as const), numbers, searched: fc.boolean() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("merge" as const) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
        using folder = tempFolder();
        let { index } = await open(folder.path);
        const model = new Map<number, string>();
        const covered: Record<number, number> = {};
        /** What was added, and is not searched for here yet. */
        let pending: [number, string][] = [];
        let pack = 0;
        const settle = () => {
          for (const [number, place] of pending) model.set(number, place);
          pending = [];
        };
        for (const step of steps) {
          if (step.kind === "add") {
            pack++;
            // One that is searched for at once is what a store opens with: before all others.
            const searched = step.searched && pending.length === 0;
            await add(index, step.numbers, pack, searched);
            covered[pack] = pack * 100 + 50;
            for (const [slot, number] of step.numbers.entries())
              pending.push([number, `${pack}:${pack * 100}:${slot}`]);
            if (searched) settle();
          } else if (step.kind === "merge") {
            await index.merge();
            settle();
            expect(Object.fromEntries(index.covered())).toEqual(covered);
          } else {
            let told: string[];
            ({ index, told } = await open(folder.path));
            expect(told).toEqual([]);
            settle();
            expect(Object.fromEntries(index.covered())).toEqual(covered);
          }
          expect(finds(index)).toEqual(range(0, LAST).map((number) => model.get(number)));
        }
        await index.merge();
        settle();
        const reopened = await open(folder.path);
        expect(finds(reopened.index)).toEqual(range(0, LAST).map((number) => model.get(number)));
        expect(reopened.index.count).toBeGreaterThanOrEqual(model.size);
      }),
      { numRuns: 50 },
    );
  });

  test("has few runs, however many additions there were", async () => {
    const { index } = await open();
    for (let pack = 1; pack <= 60; pack++) await add(index, [pack % LAST, (pack * 7) % LAST], pack);
    expect(runs().length).toBe(60);
    await index.merge();
    expect(index.runs.length).toBeLessThanOrEqual(4);
    expect(runs()).toEqual(index.runs.map(({ from, to }) => `${from}-${to}.run`).sort());
    expect(index.runs.at(-1)!.to).toBe(60);
    for (const [i, run] of index.runs.slice(1).entries())
      expect(index.runs[i]!.table.count).toBeGreaterThanOrEqual(3 * run.table.count);
  });

  test("takes 28 bytes a digest", async () => {
    const { index } = await open();
    for (const pack of [1, 2, 3]) await add(index, range(pack * 20, 20), pack);
    await index.merge();
    const bytes = index.runs.reduce((sum, { table }) => sum + table.records.byteLength, 0);
    expect([index.count, bytes]).toEqual([60, 60 * 28]);
  });

  test("doesn't keep what its caller looks up itself", async () => {
    const { index } = await open();
    await add(index, range(0, 50), 1);
    expect([index.count, index.find(all.digests, 0)]).toEqual([0, false]);
    expect((await open()).index.count).toBe(50);
  });

  test("adds in memory alone where it must not write", async () => {
    const { index } = await open();
    const builder = DigestIndex.builder();
    DigestIndex.put(builder, all.digests, 0, { pack: 9, offset: 16 }, 3);
    index.addInMemory(builder.build());
    expect([index.find(all.digests, 0), index.pack, index.offset, index.slot]).toEqual([true, 9, 16, 3]);
    expect(runs()).toEqual([]);
  });

  test("is found by its whole prefix", async () => {
    const { index } = await open();
    await add(index, [5], 1, true);
    const digest = all.digests.slice(5 * DIGEST, 6 * DIGEST);
    for (let at = 0; at < 20; at++) expect(index.find(flipped(digest, at, 1), 0)).toBe(false);
    expect(index.find(digest, 0)).toBe(true);
  });
});

/** Three runs that are not merged. */
async function threeRuns(): Promise<void> {
  const { index } = await open();
  for (const pack of [1, 2, 3]) await add(index, range(pack * 10, 10), pack);
}

describe("runs that are not as they were left", () => {
  const gone = (name: string) => rmSync(join(folder.path, name));
  const copy = (from: string, to: string) => copyFileSync(join(folder.path, from), join(folder.path, to));
  test.each([
    ["the first is missing", () => gone("1-1.run")],
    ["one in the middle is missing", () => gone("2-2.run")],
    ["one is cut short", () => truncateSync(join(folder.path, "3-3.run"), 100)],
    ["one is empty", () => writeFileSync(join(folder.path, "2-2.run"), "")],
    ["two overlap", () => void [copy("2-2.run", "1-2.run"), copy("2-2.run", "2-3.run")]],
    ["one that contains all is damaged", () => writeFileSync(join(folder.path, "1-3.run"), "x")],
    ["one that follows leaves a gap", () => copy("3-3.run", "5-5.run")],
  ])("give nothing, and it is said why: %s", async (_, spoil) => {
    await threeRuns();
    spoil();
    const { index, told } = await open();
    expect([index.count, index.covered().size, told.length]).toEqual([0, 0, 1]);
    expect(told[0]).toContain(folder.path);
  });

  test.each([
    ["the last is missing", () => gone("3-3.run"), 20],
    ["others are named alike", () => copy("1-1.run", "01-1.run"), 30],
    ["unfinished ones lie about", () => writeFileSync(join(folder.path, "4-4.run.0123456789ab.new"), "x"), 30],
    ["one contains two others", () => copy("2-2.run", "2-3.run"), 20],
  ])("are used as far as they are whole: %s", async (_, spoil, count) => {
    await threeRuns();
    spoil();
    const { index, told } = await open();
    expect([index.count, told]).toEqual([count, []]);
  });

  test("are passed over where another contains them, also where they are damaged", async () => {
    await threeRuns();
    const before = new Map(runs().map((name) => [name, readFileSync(join(folder.path, name))]));
    const { index } = await open();
    await add(index, range(40, 30), 4);
    await index.merge();
    const merged = finds(index);
    for (const [name, bytes] of before) writeFileSync(join(folder.path, name), flipped(bytes, 30));
    const again = await open();
    expect([again.told, finds(again.index)]).toEqual([[], merged]);
    expect(again.index.runs.length).toBe(1);
  });

  test("of another version are refused: it is not for this program to make them again", async () => {
    await threeRuns();
    const path = join(folder.path, "2-2.run");
    const bytes = readFileSync(path);
    bytes.writeUInt16LE(2, 8);
    bytes.writeUInt32LE(crc32(bytes.subarray(28, 36), crc32(bytes.subarray(0, 24))), 24);
    writeFileSync(path, bytes);
    expect((await failure(open())).code).toBe("refused");
  });

  test("are replaced by one, which is found whenever it was interrupted", async () => {
    await threeRuns();
    const before = new Map(runs().map((name) => [name, readFileSync(join(folder.path, name))]));
    const builder = DigestIndex.builder();
    DigestIndex.put(builder, all.digests, 0, { pack: 8, offset: 16 }, 0);
    await DigestIndex.replace(folder.path, builder.build(), new Map([[8, 100]]));
    expect(runs()).toEqual(["1-4.run"]);
    for (const [name, bytes] of before) {
      writeFileSync(join(folder.path, name), bytes);
      const { index, told } = await open();
      expect([index.count, told, [...index.covered()]]).toEqual([1, [], [[8, 100]]]);
    }
    // And what is added next comes behind it.
    const { index } = await open();
    await add(index, [1], 9, true);
    expect(runs()).toContain("5-5.run");
  });

  test("that are not there at all make an empty index; a folder that is not makes none", async () => {
    expect((await open()).told).toEqual([]);
    expect((await failure(open(join(folder.path, "none")))).code).toBe("input");
  });
});

test("a reader who comes while runs are merged finds everything", async () => {
  const { index } = await open();
  await add(index, range(0, 10), 1);
  let done = false;
  const reading = (async () => {
    let reads = 0;
    for (; !done; reads++) {
      const { index: reader, told } = await open();
      if (told.length > 0 || !reader.find(all.digests, 0)) throw new Error(`read ${reads}: ${told}`);
    }
    return reads;
  })();
  for (let pack = 2; pack < 40; pack++) {
    await add(index, range(pack, 10), pack);
    await index.merge();
  }
  done = true;
  expect(await reading).toBeGreaterThan(0);
});
