/** Keys of one block lie together: memory is mostly written in runs. */
const BLOCK_KEYS = 1024;
/** A stream may hold this many blocks, and as many more as its chunks could fill: a hostile stream can't make it sparse. */
const FREE_BLOCKS = 1024;
const CHUNKS_PER_BLOCK = BLOCK_KEYS / 4;

/**
 * Which content was last sent for a key, of one stream: 4 bytes a page where memory is dense, at most 16 a chunk
 * (and 4 MiB) where it is not. A key that finds no room is forgotten, which costs a `DELTA`.
 */
export class KeyTable {
  #blocks = new Map<number, Uint32Array>();
  #lastIndex = -1;
  #last: Uint32Array | undefined;
  #chunks = 0;

  /** Returns the number that was last put for `key`, or -1, and puts `number` in its place. */
  replace(key: number, number: number): number {
    this.#chunks++;
    const within = key % BLOCK_KEYS;
    const block = this.#block((key - within) / BLOCK_KEYS);
    if (!block) return -1;
    const before = block[within]!;
    block[within] = number + 1;
    return before - 1;
  }

  #block(index: number): Uint32Array | undefined {
    if (index === this.#lastIndex) return this.#last;
    let block = this.#blocks.get(index);
    if (!block) {
      if (this.#blocks.size >= FREE_BLOCKS + this.#chunks / CHUNKS_PER_BLOCK) return undefined;
      block = new Uint32Array(BLOCK_KEYS);
      this.#blocks.set(index, block);
    }
    this.#lastIndex = index;
    this.#last = block;
    return block;
  }
}
