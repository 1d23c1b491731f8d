import { ShrinkerError } from "../errors.ts";
import {
  type FuseLayout,
  fingerprintOf,
  firstSlot,
  hashHigh,
  hashLow,
  layoutOf,
  MAX_KEYS,
  mix,
  secondSlot,
  slotsOf,
  thirdSlot,
} from "./fuse-layout.ts";

/** Seeds that are tried. Of the worst count, 8 keys, one seed in 17 fails; from 50 000 keys on hardly any. */
const MAX_TRIES = 64;
/** Keys are put in order by buckets of about this many. */
const BUCKET_KEYS = 8;
/** A bucket of more distinct keys comes from a seed that does not spread them. */
const MAX_BUCKET = 1024;
/** A slot's counter is 4 x its keys + the XOR of which of their three slots it is; more would overflow it. */
const MAX_COUNTER = 252;
/** Any seed does for the sums that the others come from; these are digits of pi. */
const SUM_SEED0 = 0x243f_6a88;
const SUM_SEED1 = 0x85a3_08d3;

export interface FuseParts {
  /** Distinct keys. */
  readonly count: number;
  readonly layout: FuseLayout;
  readonly seed0: number;
  readonly seed1: number;
  readonly fingerprints: Uint8Array | Uint16Array;
}

/** Gives the two words of the seed for each attempt, counted from 0. */
export type Seeds = (attempt: number) => readonly [number, number];

/**
 * Seeds that are alike for the same keys, in whatever order. Who contributes some of the keys can't foresee them, and so
 * can't prepare digests for which no seed does.
 */
export function seedsFor(keys: Uint32Array): Seeds {
  let sum0 = 0;
  let sum1 = 0;
  for (let i = 0; i + 1 < keys.length; i += 2) {
    const high = hashHigh(keys[i]!, keys[i + 1]!, SUM_SEED0, SUM_SEED1);
    sum0 = (sum0 + high) | 0;
    sum1 = (sum1 + hashLow(keys[i]!, keys[i + 1]!, SUM_SEED0, high)) | 0;
  }
  return (attempt) => {
    const seed0 = mix(sum0 + Math.imul(attempt, 0x9e37_79b1));
    return [seed0 >>> 0, mix(sum1 ^ seed0) >>> 0];
  };
}

/** Builds what a filter consists of; see `buildFuseFilter`. */
export function buildParts(keys: Uint32Array, bits: 8 | 16, seeds: Seeds): FuseParts {
  if (keys.length % 2 !== 0) throw new RangeError("keys are pairs of words");
  if (keys.length / 2 > MAX_KEYS) {
    throw new ShrinkerError("input", `A summary of ${keys.length / 2} digests is too large (at most ${MAX_KEYS})`);
  }
  const hashes = new Uint32Array(keys.length);
  for (let attempt = 0; attempt < MAX_TRIES; attempt++) {
    const [seed0, seed1] = seeds(attempt);
    const count = sortHashes(keys, seed0, seed1, hashes);
    if (count < 0) continue;
    const layout = layoutOf(count);
    const which = peel(hashes, count, layout);
    if (which) return { count, layout, seed0, seed1, fingerprints: assign(hashes, which, count, layout, bits) };
  }
  throw new ShrinkerError(
    "input",
    `No summary of ${keys.length / 2} digests was found in ${MAX_TRIES} tries; go without`,
  );
}

/**
 * Puts the keys' hashes into `hashes`, high and low by turns, roughly ascending by their high halves so that what follows finds
 * its slots in the cache, and each once. Returns how many there are, or -1 where the seed doesn't spread them.
 */
function sortHashes(keys: Uint32Array, seed0: number, seed1: number, hashes: Uint32Array): number {
  const bucketBits = Math.max(1, 32 - Math.clz32(keys.length / 2 / BUCKET_KEYS));
  const shift = 32 - bucketBits;
  const ends = new Uint32Array(1 << bucketBits);
  for (let i = 0; i < keys.length; i += 2) ends[hashHigh(keys[i]!, keys[i + 1]!, seed0, seed1) >>> shift]!++;
  // Each entry becomes its bucket's start, and its end once the bucket is full.
  let sum = 0;
  for (let bucket = 0; bucket < ends.length; bucket++) {
    const length = ends[bucket]!;
    ends[bucket] = sum;
    sum += length;
  }
  for (let i = 0; i < keys.length; i += 2) {
    const high = hashHigh(keys[i]!, keys[i + 1]!, seed0, seed1);
    const at = 2 * ends[high >>> shift]!++;
    hashes[at] = high;
    hashes[at + 1] = hashLow(keys[i]!, keys[i + 1]!, seed0, high);
  }
  let kept = 0;
  for (let bucket = 0, i = 0; bucket < ends.length; bucket++) {
    const start = kept;
    for (const end = 2 * ends[bucket]!; i < end; i += 2) {
      if (isAmong(hashes, start, kept, hashes[i]!, hashes[i + 1]!)) continue;
      hashes[kept] = hashes[i]!;
      hashes[kept + 1] = hashes[i + 1]!;
      kept += 2;
      if (kept - start > 2 * MAX_BUCKET) return -1;
    }
  }
  return kept / 2;
}

function isAmong(hashes: Uint32Array, start: number, end: number, high: number, low: number): boolean {
  for (let i = start; i < end; i += 2) if (hashes[i] === high && hashes[i + 1] === low) return true;
  return false;
}

/**
 * Takes out keys that are alone in one of their slots until none is left: the order in which they can be given their
 * fingerprints is the reverse. Puts the hashes into that order of taking; returns for each which of its slots (0, 1 or 2) was its
 * own, or undefined where keys are left that share all their slots.
 */
function peel(hashes: Uint32Array, count: number, layout: FuseLayout): Uint8Array | undefined {
  const { segmentLength, segmentCount } = layout;
  const range = segmentLength * segmentCount;
  const slots = slotsOf(layout);
  const counters = new Uint8Array(slots);
  /** Of each slot the XOR of its keys' hashes: the hash itself, of one key. */
  const xors = new Uint32Array(2 * slots);
  for (let i = 0; i < 2 * count; i += 2) {
    const high = hashes[i]!;
    const low = hashes[i + 1]!;
    const first = firstSlot(high, range);
    const full =
      toggle(counters, xors, first, high, low, 4, 0) |
      toggle(counters, xors, secondSlot(first, low, segmentLength), high, low, 4, 1) |
      toggle(counters, xors, thirdSlot(first, low, segmentLength), high, low, 4, 2);
    if (full >= MAX_COUNTER) return undefined;
  }
  const which = new Uint8Array(count);
  const alone = new Uint32Array(slots);
  let waiting = 0;
  for (let slot = 0; slot < slots; slot++) if (counters[slot]! >> 2 === 1) alone[waiting++] = slot;
  let taken = 0;
  while (waiting > 0) {
    const slot = alone[--waiting]!;
    const counter = counters[slot]!;
    if (counter >> 2 !== 1) continue;
    const own = counter & 3;
    const high = xors[2 * slot]!;
    const low = xors[2 * slot + 1]!;
    hashes[2 * taken] = high;
    hashes[2 * taken + 1] = low;
    which[taken++] = own;
    const first = firstSlot(high, range);
    for (let k = 0; k < 3; k++) {
      const other =
        k === 0 ? first : k === 1 ? secondSlot(first, low, segmentLength) : thirdSlot(first, low, segmentLength);
      if (toggle(counters, xors, other, high, low, -4, k) >> 2 === 1) alone[waiting++] = other;
    }
  }
  return taken === count ? which : undefined;
}

/** Adds a key to a slot (by 4) or takes it out (by -4); returns the counter. */
function toggle(
  counters: Uint8Array,
  xors: Uint32Array,
  slot: number,
  high: number,
  low: number,
  by: number,
  which: number,
): number {
  const counter = (counters[slot]! + by) ^ which;
  counters[slot] = counter;
  xors[2 * slot]! ^= high;
  xors[2 * slot + 1]! ^= low;
  return counter;
}

/** Fills each key's own slot so that its three slots XOR to its fingerprint; what was taken last goes first. */
function assign(
  hashes: Uint32Array,
  which: Uint8Array,
  count: number,
  layout: FuseLayout,
  bits: 8 | 16,
): Uint8Array | Uint16Array {
  const { segmentLength, segmentCount } = layout;
  const range = segmentLength * segmentCount;
  const fingerprints = bits === 8 ? new Uint8Array(slotsOf(layout)) : new Uint16Array(slotsOf(layout));
  for (let i = count - 1; i >= 0; i--) {
    const high = hashes[2 * i]!;
    const low = hashes[2 * i + 1]!;
    const first = firstSlot(high, range);
    const second = secondSlot(first, low, segmentLength);
    const third = thirdSlot(first, low, segmentLength);
    const own = which[i] === 0 ? first : which[i] === 1 ? second : third;
    fingerprints[own] =
      fingerprintOf(high, low, bits) ^ fingerprints[first]! ^ fingerprints[second]! ^ fingerprints[third]!;
  }
  return fingerprints;
}
