/**
 * What does it take to say what a site holds? A filter with fingerprints of 8 and of 16 bits, and a table of prefixes, of N random
 * digests: bytes, time, memory, and how often the filter is wrong. Each in a process of its own.
 *
 *     sh cli/bun bench/summary.ts [N]        # ten millions by default
 */
import { randomFillSync } from "node:crypto";
import { fileURLToPath } from "node:url";
import { buildFuseFilter, decodeFuseFilter } from "../core/index/fuse-filter.ts";
import { PrefixTableBuilder } from "../core/index/prefix-table.ts";
import { megabytes, run, table } from "./support/run.ts";

const DIGEST = 32;
/** Digests that are made at once, and that are looked up. */
const PART = 100_000;
const PROBES = 10_000_000;
const KINDS = { filter8: "filter, 8 bits", filter16: "filter, 16 bits", table: "table of prefixes" } as const;
type Kind = keyof typeof KINDS;

interface Result {
  readonly bytes: number;
  readonly build: number;
  readonly hit: number;
  readonly miss: number;
  /** Of `PROBES` others, those that were taken for members. */
  readonly wrong: number;
}

function timed<T>(work: () => T): { seconds: number; value: T } {
  const since = performance.now();
  const value = work();
  return { seconds: (performance.now() - since) / 1000, value };
}

/** Random digests, in parts. */
function* digests(count: number): Generator<Uint8Array> {
  const part = new Uint8Array(PART * DIGEST);
  for (let left = count; left > 0; left -= PART) yield randomFillSync(part).subarray(0, Math.min(left, PART) * DIGEST);
}

/** Seconds for each of `PROBES` look-ups of what may be held and what isn't, and how many of these were wrong. */
function look(held: (part: Uint8Array) => number, members: Uint8Array): Pick<Result, "hit" | "miss" | "wrong"> {
  let wrong = 0;
  let miss = 0;
  for (const part of digests(PROBES)) {
    const { seconds, value } = timed(() => held(part));
    miss += seconds;
    wrong += value;
  }
  const expected = members.length / DIGEST;
  const hit = timed(() => held(members));
  if (hit.value !== expected) throw new Error("a member is not found");
  return { hit: hit.seconds / expected, miss: miss / PROBES, wrong };
}

function measureFilter(count: number, bits: 8 | 16): Result {
  const keys = new Uint32Array(2 * count);
  let members = new Uint8Array(0);
  let end = 0;
  for (const part of digests(count)) {
    const words = new Uint32Array(part.buffer, part.byteOffset, part.length / 4);
    for (let at = 0; at < words.length; at += 8) {
      keys[end++] = words[at]!;
      keys[end++] = words[at + 1]!;
    }
    members = part.slice();
  }
  const build = timed(() => Buffer.concat(buildFuseFilter(keys, bits).encode()));
  const filter = decodeFuseFilter(build.value);
  const held = (part: Uint8Array) => {
    const words = new Int32Array(part.buffer, part.byteOffset, part.length / 4);
    let count = 0;
    for (let at = 0; at < words.length; at += 8) if (filter.has(words, at)) count++;
    return count;
  };
  return { bytes: build.value.length, build: build.seconds, ...look(held, members) };
}

function measureTable(count: number): Result {
  const builder = new PrefixTableBuilder(0);
  let members = new Uint8Array(0);
  let adding = 0;
  for (const part of digests(count)) {
    adding += timed(() => {
      for (let at = 0; at < part.length; at += DIGEST) builder.add(part, at);
    }).seconds;
    members = part.slice();
  }
  const { seconds, value: found } = timed(() => builder.build());
  const held = (part: Uint8Array) => {
    let count = 0;
    for (let at = 0; at < part.length; at += DIGEST) if (found.has(part, at)) count++;
    return count;
  };
  return { bytes: found.records.byteLength, build: adding + seconds, ...look(held, members) };
}

const [count = "10000000", kind] = process.argv.slice(2);
const n = Number(count);
if (!Number.isSafeInteger(n) || n < 1) throw new Error(`"${count}" is no number of digests`);
if (kind) {
  const result = kind === "table" ? measureTable(n) : measureFilter(n, kind === "filter8" ? 8 : 16);
  console.log(JSON.stringify(result));
} else {
  const rows: (string | number)[][] = [];
  for (const one of Object.keys(KINDS) as Kind[]) {
    const { stdout, peak } = await run(process.execPath, [fileURLToPath(import.meta.url), String(n), one]);
    const { bytes, build, hit, miss, wrong } = JSON.parse(stdout) as Result;
    rows.push([
      KINDS[one],
      megabytes(bytes),
      ((8 * bytes) / n).toFixed(2),
      build.toFixed(2),
      (hit * 1e9).toFixed(0),
      (miss * 1e9).toFixed(0),
      wrong === 0 ? "none" : `1/${Math.round(PROBES / wrong)}`,
      megabytes(peak),
    ]);
  }
  console.log(`${n} random digests; ${PROBES} others were looked up`);
  const head = [
    "what",
    "MB",
    "bits a digest",
    "s to build",
    "ns a hit",
    "ns a miss",
    "false positives",
    "peak RSS (MB)",
  ];
  table(head, rows);
}
