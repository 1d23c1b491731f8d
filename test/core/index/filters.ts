import type { FuseFilter } from "../../../core/index/fuse-filter.ts";

export const encoded = (filter: FuseFilter) => Buffer.concat(filter.encode());
export const signed = (words: Uint32Array) => new Int32Array(words.buffer, words.byteOffset, words.length);

/** How many of the keys a filter has. */
export function hits(filter: FuseFilter, keys: Uint32Array): number {
  const words = signed(keys);
  let count = 0;
  for (let i = 0; i < words.length; i += 2) if (filter.has(words, i)) count++;
  return count;
}

/** What it throws. */
export function thrown(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return undefined;
}
