/** Where a binary fuse filter looks for a key, and for what: `fuse-filter.ts` says it in formulas. */
export interface FuseLayout {
  /** Fingerprints in a segment: a power of two. */
  readonly segmentLength: number;
  /** Segments that a key's first fingerprint may lie in; there are two more behind them. 0 for a filter of nothing. */
  readonly segmentCount: number;
}

/** 2^28 contents are 1 TiB; positions and what is computed with them are well within 32 bits. */
export const MAX_KEYS = 2 ** 28;
export const MAX_SEGMENT_LENGTH = 1 << 18;

/**
 * The layout for `count` keys, after Graf and Lemire (2022) for three positions: segments of 2^(log3.33(count) + 2.25), rounded
 * down, and 1.125 fingerprints a key, or more where there are less than a million keys. Without logarithms, whose last bit
 * differs from one runtime to another: those of 2 are in whole steps.
 */
export function layoutOf(count: number): FuseLayout {
  if (count === 0) return { segmentLength: 1, segmentCount: 0 };
  let segmentLength = 4;
  // 2^k is the length from 3.33^(k - 2.25) keys on.
  for (let from = 2.465; count >= from && segmentLength < MAX_SEGMENT_LENGTH; from *= 3.33) segmentLength *= 2;
  const log2 = Math.max(1, 31 - Math.clz32(count));
  const capacity = Math.floor(count * Math.max(1.125, 0.875 + 4.983 / log2));
  return { segmentLength, segmentCount: Math.max(1, Math.ceil(capacity / segmentLength) - 2) };
}

export function slotsOf({ segmentLength, segmentCount }: FuseLayout): number {
  return segmentCount === 0 ? 0 : (segmentCount + 2) * segmentLength;
}

/** Spreads each bit over all 32, reversibly: the finalizer of MurmurHash3 (Appleby). */
export function mix(word: number): number {
  let x = Math.imul(word ^ (word >>> 16), 0x85eb_ca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2_ae35);
  return x ^ (x >>> 16);
}

/**
 * A key's hash has two halves, a permutation of the key's two words that depends on the seed's two: three rounds of a Feistel
 * network. So keys have the same hash only if they are the same. Returns the high half.
 */
export function hashHigh(word0: number, word1: number, seed0: number, seed1: number): number {
  return word0 ^ mix(word1 ^ mix(word0 ^ seed0) ^ seed1);
}

/** The low half. @param high what `hashHigh` returned */
export function hashLow(word0: number, word1: number, seed0: number, high: number): number {
  return word1 ^ mix(word0 ^ seed0) ^ mix(high);
}

/** floor(high x range / 2^32), exactly, where high is taken as unsigned. @param range segmentCount x segmentLength, below 2^31 */
export function firstSlot(high: number, range: number): number {
  return Math.floor(((high >>> 16) * range + Math.floor(((high & 0xffff) * range) / 0x1_0000)) / 0x1_0000);
}

export function secondSlot(first: number, low: number, segmentLength: number): number {
  return (first + segmentLength) ^ ((low >>> 14) & (segmentLength - 1));
}

export function thirdSlot(first: number, low: number, segmentLength: number): number {
  return (first + 2 * segmentLength) ^ (low & (segmentLength - 1));
}

/** The key's fingerprint, of 8 or 16 bits: what its three slots have to XOR to. */
export function fingerprintOf(high: number, low: number, bits: number): number {
  return Math.imul(high ^ ((low << 16) | (low >>> 16)), 0x9e37_79b1) >>> (32 - bits);
}
