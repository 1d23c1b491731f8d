import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { IntegrityError } from "../../../core/errors.ts";
import type { PrefixTable } from "../../../core/index/prefix-table.ts";
import { DigestIndex, NO_PLACES } from "../../../core/store/digest-index.ts";
import { mergeRuns } from "../../../core/store/merge.ts";
import { readRun, runName, runRange, writeRun } from "../../../core/store/run-file.ts";
import { contents, DIGEST, failure, flipped, type TempFolder, tempFolder } from "./contents.ts";

let folder: TempFolder;
let path: string;
beforeEach(() => {
  folder = tempFolder();
  path = join(folder.path, "1-1.run");
});
afterEach(() => folder[Symbol.dispose]());

/** Contents by their numbers, in these packs. */
type Places = readonly (readonly [number: number, pack: number])[];

function tableOf(places: Places): PrefixTable {
  const builder = DigestIndex.builder();
  const { digests } = contents(places.map(([number]) => number));
  for (const [i, [number, pack]] of places.entries())
    DigestIndex.put(builder, digests, i * DIGEST, { pack, offset: number * 1000 }, number % 256);
  return builder.build();
}

const anyPlaces = fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 65_535 })), { maxLength: 50 });
const anyCovered = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 65_535 }), fc.nat(2 ** 32 - 1)), { maxLength: 9 })
  .map((pairs) => new Map(pairs));

describe("a run's file", () => {
  test("comes to the same run", async () => {
    await fc.assert(
      fc.asyncProperty(anyPlaces, anyCovered, async (places, covered) => {
        const table = tableOf(places);
        await writeRun(path, { covered, table });
        const read = await readRun(path);
        expect(Buffer.compare(read.table.records, table.records)).toBe(0);
        expect([...read.covered]).toEqual([...covered]);
      }),
      { numRuns: 40 },
    );
    expect(readdirSync(folder.path)).toEqual(["1-1.run"]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("has 28 bytes a digest, and 28 more", async () => {
    await writeRun(path, {
      covered: new Map([[1, 99]]),
      table: tableOf([
        [0, 1],
        [1, 1],
        [2, 1],
      ]),
    });
    expect(statSync(path).size).toBe(28 + 8 + 3 * 28);
  });

  test("of which any byte is another is damaged", async () => {
    await writeRun(path, {
      covered: new Map([
        [1, 500],
        [7, 80],
      ]),
      table: tableOf([
        [0, 1],
        [5, 7],
        [9, 7],
      ]),
    });
    const bytes = readFileSync(path);
    for (let at = 0; at < bytes.length; at++) {
      for (const mask of [1, 0x80]) {
        writeFileSync(path, flipped(bytes, at, mask));
        const error = await failure(readRun(path));
        if (!(error instanceof IntegrityError)) throw new Error(`byte ${at}: ${error.message}`);
      }
    }
    expect(bytes.length).toBe(28 + 2 * 8 + 3 * 28);
  });

  test("that is cut short, or goes on, is damaged", async () => {
    await writeRun(path, {
      covered: new Map([[1, 500]]),
      table: tableOf([
        [0, 1],
        [5, 1],
      ]),
    });
    const bytes = readFileSync(path);
    for (let length = 0; length < bytes.length; length++) {
      writeFileSync(path, bytes.subarray(0, length));
      if (!((await failure(readRun(path))) instanceof IntegrityError)) throw new Error(`${length} bytes`);
    }
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(28)]));
    expect(await failure(readRun(path))).toBeInstanceOf(IntegrityError);
  });

  /** What a head says, with checksums that are right. */
  function forge(change: (head: Buffer) => void, records: Uint8Array = tableOf([[0, 1]]).records): void {
    const head = Buffer.alloc(28);
    head.set([0x89, 0x53, 0x48, 0x52, 0x49, 0x0d, 0x0a, 0x1a]);
    head.writeUInt16LE(1, 8);
    head.writeUInt32LE(records.byteLength / 28, 16);
    head.writeUInt32LE(crc32(records), 20);
    change(head);
    head.writeUInt32LE(crc32(head.subarray(0, 24)), 24);
    writeFileSync(path, Buffer.concat([head, records]));
  }

  test("whose checksums are right may be wrong all the same", async () => {
    forge(() => {});
    expect((await readRun(path)).table.count).toBe(1);
    const { records } = tableOf([
      [0, 1],
      [1, 1],
    ]);
    const backwards = Buffer.concat([records.subarray(28), records.subarray(0, 28)]);
    const twice = Buffer.concat([records.subarray(0, 28), records.subarray(0, 28)]);
    for (const wrong of [backwards, twice]) {
      forge(() => {}, wrong);
      expect(await failure(readRun(path))).toBeInstanceOf(IntegrityError);
    }
    // No memory is taken for what a head claims.
    for (const [at, value] of [
      [12, 0x1_0001],
      [12, 2 ** 32 - 1],
      [16, 2 ** 32 - 1],
      [16, 0],
    ] as const) {
      forge((head) => head.writeUInt32LE(value, at));
      expect(await failure(readRun(path))).toBeInstanceOf(IntegrityError);
    }
  });

  test("is refused where it is of another version", async () => {
    forge((head) => head.writeUInt16LE(2, 8));
    expect((await failure(readRun(path))).code).toBe("refused");
  });

  test("that is not there, or in the place of which is a folder, is an input that can't be read", async () => {
    expect((await failure(readRun(join(folder.path, "none")))).code).toBe("input");
    expect(
      (await failure(writeRun(join(folder.path, "none", "1-1.run"), { covered: new Map(), table: NO_PLACES }))).code,
    ).toBe("input");
    expect(readdirSync(folder.path)).toEqual([]);
  });
});

test("a run's name says which additions it stands for", () => {
  for (const range of [
    { from: 1, to: 1 },
    { from: 3, to: 400 },
  ])
    expect(runRange(runName(range))).toEqual(range);
  for (const name of [
    "0-1.run",
    "2-1.run",
    "1-1.run.0123456789ab.new",
    "1.run",
    "-1.run",
    "01-1.run",
    "1-01.run",
    "a-1.run",
    "1-1.RUN",
    "1e1-20.run",
  ])
    expect(runRange(name)).toBe(undefined);
});

describe("runs that are merged", () => {
  test("have what both have, and of what both have the newer one's place", () => {
    fc.assert(
      fc.property(anyPlaces, anyPlaces, (older, newer) => {
        const merged = mergeRuns(tableOf(older), tableOf(newer));
        // Of what a builder is given twice the first counts.
        const model = new Map([...[...older].reverse(), ...[...newer].reverse()]);
        expect(Buffer.compare(merged.records, tableOf([...model]).records)).toBe(0);
        expect(merged.payloadSize).toBe(8);
      }),
      { numRuns: 200 },
    );
  });
});
