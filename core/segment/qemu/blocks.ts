import { NO_KEY } from "../segmenter.ts";

/** A page's key is its block's index times this, plus its page number, which is below this. */
const KEYS_A_BLOCK = 2 ** 40;

/** Blocks that get keys of their own; a PC has about ten. Names cost memory, and they come from outside. */
const MAX_BLOCKS = 1024;

/** A block of guest memory, and what was sent of it. */
export interface RamBlock {
  readonly name: string;
  /** The key of its page 0, or `NO_KEY`. */
  readonly firstKey: number;
  length: number;
  pages: number;
  zeros: number;
}

export interface RamBlocks {
  /** In the order in which their names first appeared. */
  readonly list: readonly RamBlock[];
  /** Shared by all blocks beyond the bound. */
  readonly others: RamBlock;
  /** The block of this name, made at its first appearance. */
  find(name: string): RamBlock;
}

export function createRamBlocks(): RamBlocks {
  const list: RamBlock[] = [];
  const byName = new Map<string, RamBlock>();
  const others = createBlock("", NO_KEY);
  return {
    list,
    others,
    find(name) {
      const known = byName.get(name);
      if (known) return known;
      if (list.length === MAX_BLOCKS) return others;
      const block = createBlock(name, list.length * KEYS_A_BLOCK);
      list.push(block);
      byName.set(name, block);
      return block;
    },
  };
}

function createBlock(name: string, firstKey: number): RamBlock {
  return { name, firstKey, length: 0, pages: 0, zeros: 0 };
}

/** The page number in the record header at `at`, exact below 2^52: a be64 does not fit a number, so it is read as two words. */
export function pageNumber(header: Uint8Array, at: number): number {
  const high = ((header[at] << 24) | (header[at + 1] << 16) | (header[at + 2] << 8) | header[at + 3]) >>> 0;
  const low = (header[at + 4] << 12) | (header[at + 5] << 4) | (header[at + 6] >>> 4);
  return high * 2 ** 20 + low;
}

export function pageKey(firstKey: number, page: number): number {
  return firstKey === NO_KEY || page >= KEYS_A_BLOCK ? NO_KEY : firstKey + page;
}
