/** A set of page numbers below `size`. */
export class PageBitmap {
  readonly size: number;
  readonly #words: Uint32Array;
  #count = 0;

  /** @param size pages */
  constructor(size: number) {
    this.size = size;
    this.#words = new Uint32Array(Math.ceil(size / 32));
  }

  /** How many pages are in it. */
  get count(): number {
    return this.#count;
  }

  add(page: number): void {
    const bit = 1 << (page & 31);
    const word = this.#words[page >>> 5]!;
    if ((word & bit) !== 0) return;
    this.#words[page >>> 5] = word | bit;
    this.#count++;
  }

  remove(page: number): void {
    const bit = 1 << (page & 31);
    const word = this.#words[page >>> 5]!;
    if ((word & bit) === 0) return;
    this.#words[page >>> 5] = word & ~bit;
    this.#count--;
  }

  addAll(): void {
    this.#words.fill(-1);
    if (this.size % 32 !== 0) this.#words[this.#words.length - 1] = 2 ** (this.size % 32) - 1;
    this.#count = this.size;
  }

  clear(): void {
    this.#words.fill(0);
    this.#count = 0;
  }

  /** Takes in what `other`, of the same size, has, and empties that. */
  takeFrom(other: PageBitmap): void {
    const words = this.#words;
    for (let i = 0; i < words.length; i++) {
      const added = other.#words[i]! & ~words[i]!;
      if (added === 0) continue;
      words[i] = words[i]! | added;
      this.#count += countBits(added);
    }
    other.clear();
  }

  /** The first page at or after `from`, or -1. */
  next(from: number): number {
    if (from >= this.size) return -1;
    let index = from >>> 5;
    let word = this.#words[index]! & (-1 << (from & 31));
    while (word === 0) {
      if (++index === this.#words.length) return -1;
      word = this.#words[index]!;
    }
    return index * 32 + 31 - Math.clz32(word & -word);
  }
}

function countBits(word: number): number {
  let left = word - ((word >>> 1) & 0x55555555);
  left = (left & 0x33333333) + ((left >>> 2) & 0x33333333);
  return Math.imul((left + (left >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
