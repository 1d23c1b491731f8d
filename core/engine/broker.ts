/**
 * One place where the destination may find a content by its digest: its store, a seed, another host. Brokers are asked
 * in order, a batch at a time; what they give is checked against its digest, so a broker may be wrong, or have changed.
 */
export interface ContentBroker {
  /** For messages: `store /var/lib/shrinker`. */
  readonly name: string;
  /** Whether it has digested what it gives; else the receiver does. */
  readonly checks?: boolean;
  /**
   * Looks for the digests at `digests[i * 32]` whose `found[i]` is 0; where it has one, writes its 4096 bytes to
   * `pages[i * 4096]` and sets `found[i]` to 1. Rejects only where the session can't go on.
   */
  fetch(digests: Uint8Array, count: number, found: Uint8Array, pages: Uint8Array): Promise<void>;
}
