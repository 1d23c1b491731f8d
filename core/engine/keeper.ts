/** Keeps contents, or only their digests, in the order of their numbers. */
export interface ContentKeeper {
  /**
   * @param digests 32 bytes each, back to back, aligned to 4 bytes; they are right
   * @param pages 4096 bytes each, in the same order; copied, not kept
   */
  put(digests: Uint8Array, pages: Uint8Array, count: number): Promise<void>;
}
