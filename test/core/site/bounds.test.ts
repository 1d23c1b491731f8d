// Bounds of what a site is remembered by: logs, summaries, places.
import { afterAll, expect, test } from "bun:test";
import { randomFillSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ScannedBlock } from "../../../core/engine/scan.ts";
import { MAX_PAST_CONTENTS, openLogs, pastContents } from "../../../core/site/past-logs.ts";
import { PlaceTable } from "../../../core/site/place-table.ts";
import { chooseBits } from "../../../core/site/site-memory.ts";
import { LogWriter, logName } from "../../../core/store/content-log.ts";
import { sha256 } from "../../fixtures/pages.ts";

const folder = mkdtempSync(join(tmpdir(), "shrinker-bounds-"));
afterAll(() => rmSync(folder, { recursive: true }));

const session = (n: number) => Buffer.alloc(16, n);
async function log(n: number, numbers: readonly number[]): Promise<void> {
  const writer = await LogWriter.create(folder, session(n));
  const digests = Buffer.concat(numbers.map((number) => sha256(Buffer.from(`content ${number}`))));
  await writer.put(new Uint8Array(digests), new Uint8Array(0), numbers.length);
  await writer.end();
}
const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

test("64 logs are used, of so many contents together, and of runs of numbers so many", async () => {
  for (let n = 1; n <= 70; n++) await log(n, range(n * 10, 10));
  const all = await openLogs(folder);
  expect(all).toHaveLength(64);
  const some = await openLogs(folder, 35);
  // The latest first, and of the last one what there is room for.
  expect(some.map(({ length }) => length)).toEqual([10, 10, 10, 5]);
  expect(some.map(({ session }) => session)).toEqual(all.slice(0, 4).map(({ session }) => session));
  // Each log has numbers of its own that follow those of the one before: one run. Backwards, each is another.
  const theirs = all.map(({ session, length }) => ({ session, length }));
  const past = async (most: { contents: number; parts: number }) => (await pastContents(theirs, all, most))?.count;
  expect(await past({ contents: 1000, parts: 1000 })).toBe(640);
  expect(await past({ contents: 35, parts: 1000 })).toBe(30);
  const sparse = theirs.filter((_, i) => i % 2 === 0).flatMap((one) => [one, { session: session(200), length: 5 }]);
  expect((await pastContents(sparse, all, { contents: 1000, parts: 4 }))?.count).toBe(40);
  for (const log of [...all, ...some]) log.close();
  expect(MAX_PAST_CONTENTS).toBe(2 ** 22);
});

test("a log that can't be read costs bytes, and no migration", async () => {
  const own = join(folder, "unreadable");
  mkdirSync(join(own, logName(session(1))), { recursive: true });
  expect(await openLogs(own)).toEqual([]);
});

test("where two logs differ in more than 65536 runs of numbers, the rest of the older one is not used", async () => {
  const NEW = 70_000;
  const digests = randomFillSync(new Uint8Array(2 * NEW * 32));
  const ofBoth = new Uint8Array(NEW * 32);
  for (let i = 0; i < NEW; i++) ofBoth.set(digests.subarray(i * 64, i * 64 + 32), i * 32);
  const own = join(folder, "runs");
  mkdirSync(own);
  for (const [n, part] of [digests, ofBoth].entries()) {
    const writer = await LogWriter.create(own, session(n));
    await writer.put(part, new Uint8Array(0), part.length / 32);
    await writer.end();
  }
  const logs = await openLogs(own);
  const theirs = [1, 0].map((n) => ({ session: session(n), length: n === 1 ? NEW : 2 * NEW }));
  // Every other digest of the older log is in the latest one: each of the others is a run of its own.
  const { count } = (await pastContents(theirs, logs))!;
  expect(count).toBeGreaterThanOrEqual(NEW + 65_535);
  expect(count).toBeLessThan(NEW + 65_536 + 256);
  for (const log of logs) log.close();
});

test("a summary is asked for where it is worth it, and never of more than 32 MiB", () => {
  const GIB = 2 ** 30;
  expect(chooseBits(1000, GIB)).toBe(16);
  // More than a sixteenth of what moves.
  expect(chooseBits(1_000_000, 8 << 20)).toBeUndefined();
  // Of 8 bits a content, and 1.15 times as much.
  expect(chooseBits(1_000_000, 16 * 1_151_000)).toBe(8);
  expect(chooseBits(1_000_000, 16 * 1_149_000)).toBeUndefined();
  const most = Math.floor((32 << 20) / 1.15);
  expect(chooseBits(most, undefined)).toBe(8);
  expect(chooseBits(most + 1, undefined)).toBeUndefined();
  const contents = (bytes: number) => bytes / 1.13;
  expect(chooseBits(contents(31 << 20), undefined)).toBeDefined();
  expect(chooseBits(contents(40 << 20), undefined)).toBeUndefined();
  for (let count = 1; count < 2 ** 32; count *= 3) {
    const bits = chooseBits(count, undefined);
    if (bits) expect((count * bits) / 8).toBeLessThanOrEqual(32 << 20);
  }
});

test("a stream whose places are sparse gets 1024 blocks, and one more for every 64 chunks", () => {
  const table = new PlaceTable(true);
  const COUNT = 4000;
  const nothing = { pages: Buffer.alloc(0), words: new Int32Array(0), literals: new Uint8Array(0) };
  const block = (i: number): ScannedBlock => ({
    ...{ ...nothing, count: 1, keys: Float64Array.of(i * 256), offsets: Float64Array.of(i * 4096) },
    digests: new Uint8Array(sha256(Buffer.from(`${i}`))),
  });
  for (const i of range(0, COUNT)) table.put(block(i));
  const kept = range(0, COUNT).filter((i) => table.has(block(i), 0)).length;
  expect(kept).toBeGreaterThan(1024);
  expect(kept).toBeLessThanOrEqual(1024 + Math.ceil(COUNT / 64));
  expect(range(0, 1024).every((i) => table.has(block(i), 0))).toBe(true);
});
