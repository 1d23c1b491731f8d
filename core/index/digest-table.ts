import { randomFillSync } from "node:crypto";
import { DIGEST_WORDS } from "../content/page.ts";

/** Digests are kept in blocks of this many, so that growing never copies them and forgetting gives memory back. */
const BLOCK_ENTRIES = 1 << 12;
const MIN_SLOTS = 1 << 12;
/** Grow when more than this share of the slots is taken. */
const MAX_LOAD = 0.8;
/** Old slots that each addition moves while the table grows: growing ends long before the new slots are full. */
const MOVES_PER_ADD = 8;

/** Numbers end here: 2^32 - 2 contents, 16 TiB. */
export const MAX_CONTENTS = 0xffff_fffe;

/**
 * Maps digests to content numbers: the index of a content log, in RAM. Digests lie in a dense array by number (32 bytes
 * each); an open-addressing hash table holds the numbers alone (4 bytes a slot). At its peak, while it grows from a table
 * that is 0.8 full into one of twice the size, that is 32 + 5 + 10 = 47 bytes an entry.
 *
 * Where a digest lands depends on a secret of this table, as whoever controls the contents could choose digests that
 * collide. Equality is decided by all 256 bits.
 */
export class DigestTable {
  #blocks: Int32Array[] = [];
  /** Number of the block that `#blocks[0]` is. */
  #firstBlock = 0;
  #slots = new Uint32Array(MIN_SLOTS);
  #used = 0;
  #old: Uint32Array | undefined;
  #moved = 0;
  #low = 0;
  #next = 0;
  readonly #most: number;
  readonly #secret = randomFillSync(new Int32Array(4));

  /** @param most numbers that it gives, at most and unless it is said otherwise `MAX_CONTENTS` */
  constructor(most = MAX_CONTENTS) {
    this.#most = Math.min(most, MAX_CONTENTS);
  }

  /** The oldest number that is remembered. */
  get low(): number {
    return this.#low;
  }

  /** The number that the next addition takes. */
  get next(): number {
    return this.#next;
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#blocks.length * BLOCK_ENTRIES * DIGEST_WORDS * 4 + 4 * (this.#slots.length + (this.#old?.length ?? 0));
  }

  /** The number of the digest at `words[at, at + 8)`, or -1. */
  find(words: Int32Array, at: number): number {
    const found = this.#probe(this.#slots, words, at);
    return found >= 0 || this.#old === undefined ? found : this.#probe(this.#old, words, at);
  }

  /** Gives the next number to the digest at `words[at, at + 8)`, which must not be there yet. Throws a `RangeError` where there is none left. */
  add(words: Int32Array, at: number): number {
    const number = this.#next;
    if (number >= this.#most) throw new RangeError("the content log is full");
    const within = number % BLOCK_ENTRIES;
    const block = (number - within) / BLOCK_ENTRIES - this.#firstBlock;
    if (block === this.#blocks.length) this.#blocks.push(new Int32Array(BLOCK_ENTRIES * DIGEST_WORDS));
    const target = this.#blocks[block]!;
    for (let i = 0; i < DIGEST_WORDS; i++) target[within * DIGEST_WORDS + i] = words[at + i]!;
    this.#next = number + 1;
    this.#insert(number, words, at);
    this.#used++;
    if (this.#old) this.#move(MOVES_PER_ADD);
    else if (this.#used > this.#slots.length * MAX_LOAD) this.#grow();
    return number;
  }

  /** Copies the digest of `number`, which must be in [low, next), to `words[at, at + 8)`. */
  read(number: number, words: Int32Array, at: number): void {
    const within = number % BLOCK_ENTRIES;
    const block = this.#blocks[(number - within) / BLOCK_ENTRIES - this.#firstBlock]!;
    for (let i = 0; i < DIGEST_WORDS; i++) words[at + i] = block[within * DIGEST_WORDS + i]!;
  }

  /** Drops the numbers below `number`. Their slots are swept when the table next fills up. */
  forget(number: number): void {
    if (number <= this.#low) return;
    this.#low = Math.min(number, this.#next);
    const drop = Math.floor(this.#low / BLOCK_ENTRIES) - this.#firstBlock;
    if (drop <= 0) return;
    this.#blocks.splice(0, drop);
    this.#firstBlock += drop;
  }

  #home(words: Int32Array, at: number): number {
    const secret = this.#secret;
    let h = Math.imul(words[at]! ^ secret[0]!, secret[1]! | 1) + words[at + 1]!;
    h = Math.imul(h ^ (h >>> 15), secret[2]! | 1) + words[at + 2]!;
    return (h ^ (h >>> 13)) >>> 0;
  }

  /** Double hashing: an odd step visits every slot, and keeps probes few at a high load. */
  #step(words: Int32Array, at: number): number {
    return Math.imul(words[at + 3]! ^ this.#secret[3]!, 0x9e37_79b1) | 1;
  }

  #probe(slots: Uint32Array, words: Int32Array, at: number): number {
    const mask = slots.length - 1;
    const step = this.#step(words, at);
    for (let i = this.#home(words, at) & mask; ; i = (i + step) & mask) {
      const slot = slots[i]!;
      if (slot === 0) return -1;
      if (slot > this.#low && this.#equals(slot - 1, words, at)) return slot - 1;
    }
  }

  #equals(number: number, words: Int32Array, at: number): boolean {
    const within = number % BLOCK_ENTRIES;
    const block = this.#blocks[(number - within) / BLOCK_ENTRIES - this.#firstBlock]!;
    const from = within * DIGEST_WORDS;
    if (block[from] !== words[at]) return false;
    for (let i = 1; i < DIGEST_WORDS; i++) if (block[from + i] !== words[at + i]) return false;
    return true;
  }

  #insert(number: number, words: Int32Array, at: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    const step = this.#step(words, at);
    let i = this.#home(words, at) & mask;
    while (slots[i] !== 0) i = (i + step) & mask;
    slots[i] = number + 1;
  }

  #grow(): void {
    const live = this.#next - this.#low;
    // Not less than half: the additions during the move, an eighth of the old slots, have to fit as well.
    let size = Math.max(MIN_SLOTS, this.#slots.length / 2);
    while (live > size / 2) size *= 2;
    this.#old = this.#slots;
    this.#moved = 0;
    this.#slots = new Uint32Array(size);
    this.#used = 0;
  }

  #move(count: number): void {
    const old = this.#old!;
    const end = Math.min(this.#moved + count, old.length);
    for (; this.#moved < end; this.#moved++) {
      const slot = old[this.#moved]!;
      if (slot <= this.#low) continue;
      const number = slot - 1;
      const within = number % BLOCK_ENTRIES;
      this.#insert(number, this.#blocks[(number - within) / BLOCK_ENTRIES - this.#firstBlock]!, within * DIGEST_WORDS);
      this.#used++;
    }
    if (this.#moved === old.length) this.#old = undefined;
  }
}
