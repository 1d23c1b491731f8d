import { copyBytes } from "../content/copy.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import type { NumberSet } from "./number-set.ts";

/** Contents that are held at most: 64 MiB. */
const MOST = 16_384;
/** Contents in a piece of memory: it is taken as it is needed. */
const BLOCK = 256;

/**
 * Contents in RAM, with their digests: of those that will be referred to the first ones. They cost neither a write and a read
 * of a file, nor another digest.
 */
export class ResidentContents {
  readonly #wanted: NumberSet;
  readonly #most: number;
  readonly #ordinals = new Map<number, number>();
  readonly #blocks: { readonly pages: Uint8Array; readonly digests: Uint8Array }[] = [];

  /** @param wanted the numbers of what will be referred to; those that are held here are taken out of it */
  constructor(wanted: NumberSet, most = MOST) {
    this.#wanted = wanted;
    this.#most = most;
  }

  /** Takes copies of those of the contents `[first, first + count)` that are wanted, while there is room. */
  put(first: number, count: number, pages: Uint8Array, digests: Uint8Array): void {
    for (let i = 0; i < count && this.#ordinals.size < this.#most; i++) {
      if (!this.#wanted.has(first + i)) continue;
      const ordinal = this.#ordinals.size;
      const within = ordinal % BLOCK;
      if (within === 0) {
        this.#blocks.push({ pages: new Uint8Array(BLOCK * PAGE_SIZE), digests: new Uint8Array(BLOCK * DIGEST_SIZE) });
      }
      const block = this.#blocks[this.#blocks.length - 1]!;
      copyBytes(pages, block.pages, within * PAGE_SIZE, i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
      copyBytes(digests, block.digests, within * DIGEST_SIZE, i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE);
      this.#ordinals.set(first + i, ordinal);
      this.#wanted.delete(first + i);
    }
  }

  /** Copies a content to page `slot` of `pages`, and its digest to that of `digests`; returns whether it is held. */
  read(number: number, pages: Uint8Array, digests: Uint8Array, slot: number): boolean {
    const ordinal = this.#ordinals.get(number);
    if (ordinal === undefined) return false;
    const within = ordinal % BLOCK;
    const block = this.#blocks[(ordinal - within) / BLOCK]!;
    copyBytes(block.pages, pages, slot * PAGE_SIZE, within * PAGE_SIZE, (within + 1) * PAGE_SIZE);
    copyBytes(block.digests, digests, slot * DIGEST_SIZE, within * DIGEST_SIZE, (within + 1) * DIGEST_SIZE);
    return true;
  }
}
