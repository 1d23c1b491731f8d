import { compareBytes } from "../content/compare.ts";
import { DIGEST_SIZE } from "../content/page.ts";
import { sortRecords } from "./prefix-sort.ts";
import type { SiteIndex } from "./site-index.ts";

/** Bytes of a digest that are kept: of 2^32 contents, two that share 160 bits come up once in 2^97 such sets. */
export const PREFIX_SIZE = 20;

/** Guesses by interpolation before a search only halves. Four or five find a random prefix among ten millions. */
const MAX_GUESSES = 8;
const BLOCK_RECORDS = 1 << 14;
const TWO_16 = 2 ** 16;
const TWO_32 = 2 ** 32;

/**
 * A sorted table of digests' prefixes with a payload of a fixed size each, and nothing else in RAM: records of
 * `PREFIX_SIZE + payloadSize` bytes back to back, strictly ascending by prefix. What a prefix says of a content has to be
 * checked against the whole digest where it matters.
 */
export class PrefixTable {
  readonly records: Uint8Array;
  readonly payloadSize: number;
  readonly count: number;
  readonly #size: number;

  /** @param records must be sorted (`isSorted`) and not change afterwards; they are not copied */
  constructor(records: Uint8Array, payloadSize: number) {
    this.#size = PREFIX_SIZE + payloadSize;
    this.records = records;
    this.payloadSize = payloadSize;
    // Not `length`, here and below: V8's middle compiler (15.0) takes that for 31 bits, and there may be more than 2 GiB.
    this.count = records.byteLength / this.#size;
    if (!Number.isInteger(this.count))
      throw new RangeError(`records of ${this.#size} bytes can't be ${records.byteLength}`);
  }

  /**
   * The index of the record whose prefix the digest at `digest[at]` has, or -1. Guesses by interpolation, which takes
   * O(log log n) on random prefixes (Perl, Itai and Avni, CACM 21(7), 1978); as whoever chooses contents can choose how their
   * prefixes are spread, it then halves: O(log n) whatever they are.
   */
  find(digest: Uint8Array, at: number): number {
    const records = this.records;
    const size = this.#size;
    const key = lead(digest, at);
    let low = 0;
    let high = this.count;
    /** The first 32 bits of what lies just outside of [low, high). */
    let lowKey = 0;
    let highKey = TWO_32;
    for (let guesses = 0; low < high; guesses++) {
      const share = guesses < MAX_GUESSES ? (key - lowKey) / (highKey - lowKey) : 0.5;
      const middle = Math.min(high - 1, low + Math.floor(share * (high - low)));
      const record = middle * size;
      const order = compareBytes(digest, at, records, record, PREFIX_SIZE);
      if (order === 0) return middle;
      if (order > 0) {
        low = middle + 1;
        lowKey = lead(records, record);
      } else {
        high = middle;
        highKey = lead(records, record);
      }
    }
    return -1;
  }

  has(digest: Uint8Array, at: number): boolean {
    return this.find(digest, at) >= 0;
  }

  /** Where the payload of a record begins in `records`. */
  payloadAt(index: number): number {
    return index * this.#size + PREFIX_SIZE;
  }

  /** Of a table with places: the number of the file that the builder was given. */
  fileAt(index: number): number {
    const at = this.payloadAt(index);
    return this.records[at]! | (this.records[at + 1]! << 8);
  }

  /** Of a table with places: the offset that the builder was given. */
  offsetAt(index: number): number {
    const at = this.payloadAt(index) + 2;
    const { records } = this;
    const low = records[at]! | (records[at + 1]! << 8) | (records[at + 2]! << 16) | (records[at + 3]! << 24);
    return (low >>> 0) + (records[at + 4]! | (records[at + 5]! << 8)) * TWO_32;
  }
}

/** Whether records are whole and strictly ascending by prefix. */
export function isSorted(records: Uint8Array, payloadSize: number): boolean {
  const size = PREFIX_SIZE + payloadSize;
  const end = records.byteLength;
  if (end % size !== 0) return false;
  for (let at = size; at < end; at += size) {
    if (compareBytes(records, at - size, records, at, PREFIX_SIZE) >= 0) return false;
  }
  return true;
}

/** The first 32 bits, as they sort. */
function lead(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/**
 * Collects digests for a table. Takes a record for each digest that is added, repeated ones too, and while it builds as much
 * again: 40 bytes a digest, or 56 with places. It takes half as much more where most digests have their first two bytes
 * in common, and is linear in any case.
 */
export class PrefixTableBuilder {
  readonly #payloadSize: 0 | 8;
  readonly #size: number;
  #blocks: Uint8Array[] = [];
  #within = BLOCK_RECORDS;

  /** @param payloadSize 8 for a table with places: u16 file, u48 offset, little-endian */
  constructor(payloadSize: 0 | 8) {
    this.#payloadSize = payloadSize;
    this.#size = PREFIX_SIZE + payloadSize;
  }

  /**
   * Adds the digest at `digest[at]`. Of equal prefixes the one that was added first stays.
   * @param file a whole number below 2^16
   * @param offset a whole number below 2^48
   */
  add(digest: Uint8Array, at: number, file = 0, offset = 0): void {
    if (this.#within === BLOCK_RECORDS) {
      this.#blocks.push(new Uint8Array(BLOCK_RECORDS * this.#size));
      this.#within = 0;
    }
    const block = this.#blocks[this.#blocks.length - 1]!;
    const start = this.#within * this.#size;
    for (let i = 0; i < PREFIX_SIZE; i++) block[start + i] = digest[at + i]!;
    if (this.#payloadSize === 8) {
      putU16(block, start + PREFIX_SIZE, file);
      putU16(block, start + PREFIX_SIZE + 2, offset % TWO_16);
      putU16(block, start + PREFIX_SIZE + 4, Math.floor(offset / TWO_16) % TWO_16);
      putU16(block, start + PREFIX_SIZE + 6, Math.floor(offset / TWO_32));
    }
    this.#within++;
  }

  /** The table; the builder is empty afterwards. Throws a `RangeError` where its records exceed what an array can hold. */
  build(): PrefixTable {
    const blocks = this.#blocks;
    const last = blocks.pop();
    if (last) blocks.push(last.subarray(0, this.#within * this.#size));
    this.#blocks = [];
    this.#within = BLOCK_RECORDS;
    return new PrefixTable(sortRecords(blocks, this.#size, PREFIX_SIZE), this.#payloadSize);
  }
}

function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

/** What a table lists, as a site index. A list is what it is: nothing is noted. */
export function prefixIndex(table: PrefixTable): SiteIndex {
  return {
    async lookup(digests, count, held) {
      for (let i = 0; i < count; i++) held[i] = table.has(digests, i * DIGEST_SIZE) ? 1 : 0;
    },
    async insert() {},
    async close() {},
  };
}
