import { PAGE_SIZE } from "../content/page.ts";
import { ProtocolError } from "../errors.ts";
import type { KnownContents } from "./classify.ts";

/** Contents sent by digest whose bytes are kept until the destination has found them: 64 MiB. */
const MAX_OUTSTANDING = (64 << 20) / PAGE_SIZE;

/** A peer that leaves a content unresolved while this many others are sent does not get it any more. */
const MAX_AGE = 1 << 20;

/** The sender's ledger of contents that the destination may still ask for. Each may be asked for once. */
export class KnownLedger implements KnownContents {
  /** Numbers in ascending order, and whether they were asked for. */
  readonly #asked = new Map<number, boolean>();

  room(): number {
    return MAX_OUTSTANDING - this.#asked.size;
  }

  add(number: number): void {
    this.#asked.set(number, false);
    if (number - this.oldest > MAX_AGE) this.resolved(number - MAX_AGE);
  }

  get oldest(): number {
    for (const number of this.#asked.keys()) return number;
    return Number.POSITIVE_INFINITY;
  }

  /** The destination asks for `number`. Throws a `ProtocolError` where it may not: it can't fish for contents. */
  want(number: number): void {
    if (this.#asked.get(number) !== false) {
      throw new ProtocolError(
        `The peer asks for content ${number}, which was not sent by digest or was asked for before`,
      );
    }
    this.#asked.set(number, true);
  }

  /** The destination has every content below `number`. */
  resolved(number: number): void {
    for (const known of this.#asked.keys()) {
      if (known >= number) return;
      this.#asked.delete(known);
    }
  }
}
