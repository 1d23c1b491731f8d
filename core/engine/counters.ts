/** What a stream or session has moved, in bytes and pages. `plain` = `zero` + `deduplicated` + `fresh`. */
export interface Counters {
  /** Bytes of the stream itself. */
  plain: number;
  /** Of these: sent as a length. */
  zero: number;
  /** Sent as a reference to a content that the destination has. */
  deduplicated: number;
  /** Sent as content: pages, XORs and literals. */
  fresh: number;
  /** Of `fresh`: bytes that no page holds. */
  literal: number;
  /** Of `fresh`: pages sent as the XOR with their last version. */
  delta: number;
}

export function noCounters(): Counters {
  return { plain: 0, zero: 0, deduplicated: 0, fresh: 0, literal: 0, delta: 0 };
}

export function addCounters(target: Counters, more: Counters): void {
  target.plain += more.plain;
  target.zero += more.zero;
  target.deduplicated += more.deduplicated;
  target.fresh += more.fresh;
  target.literal += more.literal;
  target.delta += more.delta;
}
