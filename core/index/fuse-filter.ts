import { crc32 } from "node:zlib";
import { ProtocolError } from "../errors.ts";
import { buildParts, type FuseParts, seedsFor } from "./fuse-build.ts";
import {
  type FuseLayout,
  fingerprintOf,
  firstSlot,
  hashHigh,
  hashLow,
  MAX_KEYS,
  MAX_SEGMENT_LENGTH,
  secondSlot,
  slotsOf,
  thirdSlot,
} from "./fuse-layout.ts";

/*
 * The encoding. Integers are little-endian and unsigned; CRC-32 is zlib's.
 *
 *   offset  size  value
 *   0       4     magic: "SHFF"
 *   4       u8    version: 1
 *   5       u8    bits of a fingerprint: 8 or 16
 *   6       u16   must be 0
 *   8       u32   count: distinct keys, at most 2^28
 *   12      u32   L: fingerprints in a segment, a power of two, at most 2^18
 *   16      u32   S: segments; 0 if and only if count is 0
 *   20      u32   seed 0
 *   24      u32   seed 1
 *   28      u32   CRC-32 of the 28 bytes before and of the fingerprints
 *   32            F: (S + 2) x L fingerprints of u8 or u16, none if S is 0; they end the encoding
 *
 * count <= (S + 2) x L <= 4 x count + 64. A writer may choose L and S as it likes within that.
 *
 * A digest's key is its first two words: w0 is its bytes 0 to 3 as a u32, w1 its bytes 4 to 7. All arithmetic is modulo 2^32
 * except where it is said otherwise; ^ is XOR, >> shifts zeros in:
 *
 *   mix(x):  x = (x ^ x >> 16) x 0x85ebca6b;  x = (x ^ x >> 13) x 0xc2b2ae35;  x ^ x >> 16
 *   m        = w1 ^ mix(w0 ^ seed 0)
 *   high     = w0 ^ mix(m ^ seed 1)
 *   low      = m ^ mix(high)
 *   first    = floor(high x S x L / 2^32), exactly, not modulo 2^32
 *   second   = (first + L) ^ (low >> 14 & L - 1)
 *   third    = (first + 2 x L) ^ (low & L - 1)
 *   print    = the top 8 or 16 bits of (high ^ low rotated by 16) x 0x9e3779b1
 *
 * The filter has the key if F[first] ^ F[second] ^ F[third] = print; one of count 0 has none.
 */
const MAGIC = 0x4646_4853;
const VERSION = 1;
const HEADER_BYTES = 32;

/**
 * A binary fuse filter with three positions a key (Graf and Lemire, Binary Fuse Filters: Fast and Smaller Than Xor Filters,
 * ACM Journal of Experimental Algorithmics 27, 2022): says of each key that it was built from that it has it, and of one in
 * 2^bits others as well. Takes 9.0 or 18.0 bits a key, more for less than a million.
 */
export class FuseFilter {
  readonly bits: 8 | 16;
  /** Distinct keys that it was built from. */
  readonly count: number;
  readonly #layout: FuseLayout;
  readonly #seed0: number;
  readonly #seed1: number;
  readonly #range: number;
  readonly #fingerprints: Uint8Array | Uint16Array;

  constructor(bits: 8 | 16, { count, layout, seed0, seed1, fingerprints }: FuseParts) {
    this.bits = bits;
    this.count = count;
    this.#layout = layout;
    this.#seed0 = seed0;
    this.#seed1 = seed1;
    this.#range = layout.segmentCount * layout.segmentLength;
    this.#fingerprints = fingerprints;
  }

  /** Whether it probably has the digest at `words[at, at + 8)`. */
  has(words: Int32Array, at: number): boolean {
    if (this.count === 0) return false;
    const high = hashHigh(words[at]!, words[at + 1]!, this.#seed0, this.#seed1);
    const low = hashLow(words[at]!, words[at + 1]!, this.#seed0, high);
    const { segmentLength } = this.#layout;
    const prints = this.#fingerprints;
    const first = firstSlot(high, this.#range);
    const second = secondSlot(first, low, segmentLength);
    const third = thirdSlot(first, low, segmentLength);
    return (prints[first]! ^ prints[second]! ^ prints[third]!) === fingerprintOf(high, low, this.bits);
  }

  /** Bytes of the encoding. */
  get byteLength(): number {
    return HEADER_BYTES + this.#fingerprints.byteLength;
  }

  /** The encoding, in parts; the fingerprints are the filter's own, not a copy. */
  encode(): Uint8Array[] {
    const { segmentLength, segmentCount } = this.#layout;
    const { buffer, byteOffset, byteLength } = this.#fingerprints;
    const body = new Uint8Array(buffer, byteOffset, byteLength);
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(MAGIC, 0);
    header.writeUInt8(VERSION, 4);
    header.writeUInt8(this.bits, 5);
    [this.count, segmentLength, segmentCount, this.#seed0, this.#seed1].forEach((word, i) => {
      header.writeUInt32LE(word, 8 + 4 * i);
    });
    header.writeUInt32LE(checksum(header, body), 28);
    return [header, body];
  }
}

/**
 * Builds a filter. Takes 26 bytes a key besides the keys (28 with 16 bits); the same keys in the same order make the same filter.
 *
 * A seed that does not fit the keys is followed by another. Throws a `ShrinkerError` (`input`) where none of 64 does, which
 * doesn't happen by chance; then there is no summary, and nothing is wrong with the keys otherwise.
 * @param keys two words for each: the first two of its digest, in any order; repeated ones count once
 */
export function buildFuseFilter(keys: Uint32Array, bits: 8 | 16): FuseFilter {
  return new FuseFilter(bits, buildParts(keys, bits, seedsFor(keys)));
}

/** Reads a filter's encoding from outside; copies what it keeps. Throws a `ProtocolError`. */
export function decodeFuseFilter(bytes: Uint8Array): FuseFilter {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || view.getUint32(0, true) !== MAGIC)
    throw new ProtocolError("A summary has no header");
  if (bytes[4] !== VERSION) throw new ProtocolError(`A summary is of version ${bytes[4]}, expected ${VERSION}`);
  const bits = bytes[5];
  if ((bits !== 8 && bits !== 16) || view.getUint16(6, true) !== 0) throw new ProtocolError("A summary has bad flags");
  const [count, segmentLength, segmentCount, seed0, seed1, sum] = Array.from({ length: 6 }, (_, i) =>
    view.getUint32(8 + 4 * i, true),
  ) as [number, number, number, number, number, number];
  const layout = { segmentLength, segmentCount };
  checkLayout(count, layout);
  const slots = slotsOf(layout);
  // Not by `slice`, which doesn't copy where the bytes are a Buffer.
  const body = new Uint8Array(bytes.subarray(HEADER_BYTES));
  if (body.length !== (slots * bits) / 8) {
    throw new ProtocolError(`A summary of ${slots} fingerprints has ${body.length} bytes of them`);
  }
  if (sum !== checksum(bytes, body)) throw new ProtocolError("A summary's checksum is wrong");
  const fingerprints = bits === 8 ? body : new Uint16Array(body.buffer);
  return new FuseFilter(bits, { count, layout, seed0, seed1, fingerprints });
}

function checkLayout(count: number, layout: FuseLayout): void {
  const { segmentLength, segmentCount } = layout;
  const slots = slotsOf(layout);
  const power =
    segmentLength >= 1 && segmentLength <= MAX_SEGMENT_LENGTH && (segmentLength & (segmentLength - 1)) === 0;
  if (!power) throw new ProtocolError(`A summary has segments of ${segmentLength} fingerprints`);
  const fits = count <= MAX_KEYS && count <= slots && slots <= 4 * count + 64;
  if (!fits || (count === 0) !== (segmentCount === 0)) {
    throw new ProtocolError(`A summary of ${count} digests has ${slots} fingerprints`);
  }
}

function checksum(header: Uint8Array, body: Uint8Array): number {
  return crc32(body, crc32(header.subarray(0, 28)));
}
