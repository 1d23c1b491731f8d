/** Fewer records than this are sorted by insertion. */
const SMALL = 16;
const FIRST_BUCKETS = 1 << 16;

/**
 * Sorts records by the bytes they begin with, stably, and drops all but the first of those that have the same. A radix sort from
 * the most significant byte on (McIlroy, Bostic and McIlroy, Computing Systems 6(1), 1993): two bytes at once into the
 * result, then each bucket by further bytes as long as it is large. Linear whatever the records are, as a prefix has
 * few bytes.
 * @param blocks whole records of `size` bytes, a multiple of 4, each block at a multiple of 4; taken out while they are read
 * @param size bytes in a record
 * @param prefix bytes that are sorted by, at least 2
 */
export function sortRecords(blocks: Uint8Array[], size: number, prefix: number): Uint8Array {
  const ends = new Uint32Array(FIRST_BUCKETS);
  let count = 0;
  for (const block of blocks) {
    for (let at = 0; at < block.length; at += size) ends[(block[at]! << 8) | block[at + 1]!]!++;
    count += block.length / size;
  }
  const bytes = new Uint8Array(count * size);
  const words = new Uint32Array(bytes.buffer);
  // Each entry becomes its bucket's start, and its end once the bucket is full.
  let start = 0;
  for (let bucket = 0; bucket < FIRST_BUCKETS; bucket++) {
    const length = ends[bucket]!;
    ends[bucket] = start;
    start += length;
  }
  while (blocks.length > 0) {
    const block = blocks.shift()!;
    const from = new Uint32Array(block.buffer, block.byteOffset, block.length / 4);
    for (let at = 0; at < block.length; at += size) {
      move(from, at / 4, words, (ends[(block[at]! << 8) | block[at + 1]!]!++ * size) / 4, size / 4);
    }
  }
  const sorter = new Sorter(bytes, words, size, prefix);
  for (let bucket = 0, start = 0; bucket < FIRST_BUCKETS; bucket++) {
    const end = ends[bucket]!;
    if (end - start > 1) sorter.sort(start, end, 2);
    start = end;
  }
  const kept = sorter.unique(count);
  return kept === count ? bytes : bytes.slice(0, kept * size);
}

function move(from: Uint32Array, i: number, to: Uint32Array, j: number, words: number): void {
  for (let k = 0; k < words; k++) to[j + k] = from[i + k]!;
}

class Sorter {
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #size: number;
  readonly #recordWords: number;
  readonly #prefix: number;
  readonly #held: Uint32Array;
  /** By depth: for each byte, where its bucket begins, then where it ends. */
  readonly #buckets: Uint32Array[] = [];
  #aside = new Uint32Array(0);

  constructor(bytes: Uint8Array, words: Uint32Array, size: number, prefix: number) {
    this.#bytes = bytes;
    this.#words = words;
    this.#size = size;
    this.#recordWords = size / 4;
    this.#prefix = prefix;
    this.#held = new Uint32Array(size / 4);
  }

  /** Sorts the records [start, end), which are alike in their first `depth` bytes. */
  sort(start: number, end: number, depth: number): void {
    if (end - start <= SMALL) {
      this.#insert(start, end, depth);
      return;
    }
    for (let at = depth; at < this.#prefix; at++) {
      if (!this.#split(start, end, at)) continue;
      const ends = this.#buckets[at]!;
      for (let byte = 0, from = start; byte < 256; byte++) {
        const to = ends[byte]!;
        if (to - from > 1) this.sort(from, to, at + 1);
        from = to;
      }
      return;
    }
  }

  /** Moves the records [start, end) into buckets by one byte. Returns false, and moves nothing, where all have the same. */
  #split(start: number, end: number, depth: number): boolean {
    this.#buckets[depth] ??= new Uint32Array(256);
    const ends = this.#buckets[depth]!;
    const bytes = this.#bytes;
    const size = this.#size;
    ends.fill(0);
    for (let i = start; i < end; i++) ends[bytes[i * size + depth]!]!++;
    if (ends[bytes[start * size + depth]!] === end - start) return false;
    for (let byte = 0, sum = start; byte < 256; byte++) {
      const length = ends[byte]!;
      ends[byte] = sum;
      sum += length;
    }
    const words = this.#recordWords;
    const length = (end - start) * words;
    if (this.#aside.length < length) this.#aside = new Uint32Array(length);
    const aside = this.#aside;
    aside.set(this.#words.subarray(start * words, end * words));
    const key = new Uint8Array(aside.buffer);
    for (let i = 0; i < end - start; i++) {
      move(aside, i * words, this.#words, ends[key[i * size + depth]!]!++ * words, words);
    }
    return true;
  }

  #insert(start: number, end: number, depth: number): void {
    const words = this.#recordWords;
    for (let i = start + 1; i < end; i++) {
      let j = i;
      while (j > start && this.#compare(j - 1, i, depth) > 0) j--;
      if (j === i) continue;
      move(this.#words, i * words, this.#held, 0, words);
      this.#words.copyWithin((j + 1) * words, j * words, i * words);
      move(this.#held, 0, this.#words, j * words, words);
    }
  }

  #compare(i: number, j: number, depth: number): number {
    const bytes = this.#bytes;
    for (let k = depth, a = i * this.#size, b = j * this.#size; k < this.#prefix; k++) {
      const difference = bytes[a + k]! - bytes[b + k]!;
      if (difference !== 0) return difference;
    }
    return 0;
  }

  /** Moves the first record of each prefix to the front; returns how many there are. */
  unique(count: number): number {
    let kept = Math.min(1, count);
    for (let i = 1; i < count; i++) {
      if (this.#compare(kept - 1, i, 0) === 0) continue;
      if (kept !== i)
        move(this.#words, i * this.#recordWords, this.#words, kept * this.#recordWords, this.#recordWords);
      kept++;
    }
    return kept;
  }
}
