import { ShrinkerError } from "../errors.ts";
import { CLOCK_MS } from "./proof.ts";

/** Proofs that are remembered: of peers that may come, for nobody else's get this far. */
const MAX_NONCES = 65_536;
/** Of one of them, so that it keeps no other out. */
const MAX_OF_PEER = 16_384;

interface Bounds {
  readonly all: number;
  readonly ofPeer: number;
}

/** Which proofs were seen in the time that they are good for: each is good once. */
export class SeenProofs {
  readonly #seen = new Map<string, { readonly until: number; readonly peer: string }>();
  readonly #counts = new Map<string, number>();
  readonly #most: Bounds;

  /** @param most proofs that are remembered; further ones are not taken until some are out of date */
  constructor(most: Bounds = { all: MAX_NONCES, ofPeer: MAX_OF_PEER }) {
    this.#most = most;
  }

  /**
   * Throws `refused` for a proof that is out of date, or was seen; `link` for one that can't be remembered now.
   * @param peer whose it is
   */
  admit({ nonce, time }: { readonly nonce: Uint8Array; readonly time: number }, peer: string, now = Date.now()): void {
    if (Math.abs(now - time) > CLOCK_MS) {
      const apart = Math.round(Math.abs(now - time) / 60_000);
      const which = time < now ? "behind" : "ahead";
      throw new ShrinkerError("refused", `Your clock is ${apart} minutes ${which} of this receiver's: set both right`);
    }
    const name = Buffer.from(nonce).toString("latin1");
    if (this.#seen.has(name)) throw new ShrinkerError("refused", "That proof of identity was used before");
    if (this.#isFull(peer)) this.#forget(now);
    if (this.#isFull(peer))
      throw new ShrinkerError("link", "This receiver has had too many connections of late: try again in 10 minutes");
    this.#seen.set(name, { until: time + CLOCK_MS, peer });
    this.#count(peer, 1);
  }

  #isFull(peer: string): boolean {
    return this.#seen.size >= this.#most.all || (this.#counts.get(peer) ?? 0) >= this.#most.ofPeer;
  }

  #forget(now: number): void {
    for (const [name, { until, peer }] of this.#seen) {
      if (until >= now) continue;
      this.#seen.delete(name);
      this.#count(peer, -1);
    }
  }

  #count(peer: string, change: 1 | -1): void {
    const count = (this.#counts.get(peer) ?? 0) + change;
    if (count > 0) this.#counts.set(peer, count);
    else this.#counts.delete(peer);
  }
}
