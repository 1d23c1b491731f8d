import { ShrinkerError } from "../errors.ts";
import { CLOCK_MS } from "./proof.ts";

/** Proofs that are remembered: of peers that may come, for nobody else's get this far. */
const MAX_NONCES = 65_536;

/** Which proofs were seen in the time that they are good for: each is good once. */
export class SeenProofs {
  readonly #until = new Map<string, number>();
  readonly #most: number;

  /** @param most proofs that are remembered; further ones are refused until some are out of date */
  constructor(most = MAX_NONCES) {
    this.#most = most;
  }

  /** Throws `refused` for a proof that is out of date, was seen, or can't be remembered. */
  admit({ nonce, time }: { readonly nonce: Uint8Array; readonly time: number }, now = Date.now()): void {
    if (Math.abs(now - time) > CLOCK_MS) {
      const apart = Math.round(Math.abs(now - time) / 60_000);
      const which = time < now ? "behind" : "ahead";
      throw new ShrinkerError("refused", `Your clock is ${apart} minutes ${which} of this receiver's: set both right`);
    }
    const name = Buffer.from(nonce).toString("latin1");
    if (this.#until.has(name)) throw new ShrinkerError("refused", "That proof of identity was used before");
    if (this.#until.size >= this.#most) this.#forget(now);
    if (this.#until.size >= this.#most)
      throw new ShrinkerError("refused", "This receiver has had too many connections of late: try again in 10 minutes");
    this.#until.set(name, time + CLOCK_MS);
  }

  #forget(now: number): void {
    for (const [name, until] of this.#until) if (until < now) this.#until.delete(name);
  }
}
