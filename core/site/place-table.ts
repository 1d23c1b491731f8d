import { compareBytes } from "../content/compare.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import type { ScannedBlock } from "../engine/scan.ts";
import { PREFIX_SIZE } from "../index/prefix-table.ts";

/** Places of one block lie together: memory and disks are mostly filled in runs. */
const BLOCK_PLACES = 256;
/** u16 1 + where in its page the chunk begins, or 0 for a place that nothing is at, and the prefix. */
const ENTRY = 2 + PREFIX_SIZE;
/** A stream may have this many blocks, and as many more as its chunks could fill: a hostile stream can't make it sparse. */
const FREE_BLOCKS = 1024;
const CHUNKS_PER_BLOCK = BLOCK_PLACES / 4;

/**
 * Which content is at which place of one stream: in a stream with keys the key, of which the last content counts, else the
 * offset. 22 bytes a place where they are dense, at most 88 a chunk (and 6 MB) where they are not. A place that finds
 * no room is forgotten.
 */
export class PlaceTable {
  readonly #keyed: boolean;
  readonly #blocks = new Map<number, Uint8Array>();
  #lastIndex = -1;
  #last: Uint8Array | undefined;
  #chunks = 0;
  #at = 0;
  #mark = 0;

  constructor(keyed: boolean) {
    this.#keyed = keyed;
  }

  /** Puts a block's contents where they are. */
  put({ count, keys, offsets, digests }: ScannedBlock): void {
    for (let i = 0; i < count; i++) {
      this.#chunks++;
      const block = this.#seek(this.#keyed ? keys[i]! : offsets[i]!, true);
      if (!block) continue;
      const at = this.#at;
      block[at] = this.#mark;
      block[at + 1] = this.#mark >>> 8;
      for (let k = 0; k < PREFIX_SIZE; k++) block[at + 2 + k] = digests[DIGEST_SIZE * i + k]!;
    }
  }

  /** Whether the content `i` of a block, of a stream of the same format, is here at the same place. */
  has({ keys, offsets, digests }: ScannedBlock, i: number): boolean {
    const block = this.#seek(this.#keyed ? keys[i]! : offsets[i]!, false);
    if (!block) return false;
    const at = this.#at;
    const mark = block[at]! | (block[at + 1]! << 8);
    return mark === this.#mark && compareBytes(block, at + 2, digests, DIGEST_SIZE * i, PREFIX_SIZE) === 0;
  }

  /** Finds the block of a place, and sets `#at` and `#mark`. */
  #seek(place: number, make: boolean): Uint8Array | undefined {
    const within = this.#keyed ? 0 : place % PAGE_SIZE;
    const page = this.#keyed ? place : (place - within) / PAGE_SIZE;
    const slot = page % BLOCK_PLACES;
    const index = (page - slot) / BLOCK_PLACES;
    this.#at = slot * ENTRY;
    this.#mark = within + 1;
    if (index === this.#lastIndex) return this.#last;
    let block = this.#blocks.get(index);
    if (!block) {
      if (!make || this.#blocks.size >= FREE_BLOCKS + this.#chunks / CHUNKS_PER_BLOCK) return undefined;
      block = new Uint8Array(BLOCK_PLACES * ENTRY);
      this.#blocks.set(index, block);
    }
    this.#lastIndex = index;
    this.#last = block;
    return block;
  }
}
