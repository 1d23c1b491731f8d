/**
 * Which contents a site holds: what the sender asks before it sends a content that its session's log does not have.
 * Asked and told in batches, for the answer may come from another process or machine. Losing an index, or an answer
 * that is wrong, costs bytes and never correctness: the destination asks for what it does not find.
 */
export interface SiteIndex {
  /**
   * Sets `held[i]` to 1 for each of the `count` digests in `digests` (32 bytes each, back to back) that the site probably
   * holds, else to 0.
   */
  lookup(digests: Uint8Array, count: number, held: Uint8Array): Promise<void>;
  /** Notes that the site holds these from now on. */
  insert(digests: Uint8Array, count: number): Promise<void>;
  close(): Promise<void>;
}
