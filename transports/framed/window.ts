import { ProtocolError } from "../../core/errors.ts";
import { MAX_GRANT, PIECE_COST } from "./framing.ts";

/** What a peer may send before anything was granted; alike at both ends. */
export const FIRST_WINDOW = 2 << 20;

/**
 * What a peer may have sent that nobody has taken yet. It begins small, for a stranger's sake, and grows as fast as bytes
 * are taken, so that it comes to hold what is on the way of a fast link.
 */
export class ReceiveWindow {
  readonly #peer: string;
  readonly #most: number;
  #size: number;
  #granted = FIRST_WINDOW;
  #spent = 0;

  /** @param most bytes, at least `FIRST_WINDOW` */
  constructor(peer: string, most: number) {
    this.#peer = peer;
    this.#most = Math.max(most, FIRST_WINDOW);
    this.#size = FIRST_WINDOW;
  }

  /** The peer begins a piece. Throws a `ProtocolError` where it may not. */
  spend(length: number): void {
    this.#spent += length + PIECE_COST;
    if (this.#spent > this.#granted) this.#refuse();
  }

  /** Throws a `ProtocolError` where what waits takes much more room than it should: the peer cuts it to shreds. */
  check(waiting: number): void {
    if (waiting > 2 * this.#size) this.#refuse();
  }

  /**
   * What is to be granted now, 0 where it is not worth a word.
   * @param waiting bytes that have come and wait, with `PIECE_COST` for each part
   * @param left bytes that were spent and have not come
   */
  grant(waiting: number, left: number): number {
    const more = Math.min(this.#spent - left + this.#size - waiting - this.#granted, MAX_GRANT);
    if (more < this.#size / 4) return 0;
    this.#granted += more;
    this.#size = Math.min(this.#size + more, this.#most);
    return more;
  }

  #refuse(): never {
    throw new ProtocolError(`${this.#peer} sends more than it was granted`);
  }
}

/** What may be sent to a peer. */
export class SendWindow {
  #credit = FIRST_WINDOW;
  #more: (() => void) | undefined;

  granted(bytes: number): void {
    this.#credit += bytes;
    this.#more?.();
  }

  /** Resolves with how much of `length` bytes may go as the next piece, at least 1. */
  async next(length: number): Promise<number> {
    while (this.#credit <= PIECE_COST) {
      await new Promise<void>((resolve) => {
        this.#more = resolve;
      });
    }
    const now = Math.min(length, this.#credit - PIECE_COST);
    this.#credit -= now + PIECE_COST;
    return now;
  }
}
