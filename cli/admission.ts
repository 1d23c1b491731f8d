import { ShrinkerError } from "../core/errors.ts";
import type { PeerIdentity } from "../core/transport/transport.ts";

/** Which sessions a receiver has: so many at most, in all and of each peer. */
export class Admission {
  readonly #most: number;
  /** By the peer's name, where it has any. */
  readonly #own = new Map<string, number>();
  #sessions = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Throws `refused` for one too many. */
  enter(identity: PeerIdentity | undefined): void {
    if (this.#sessions >= this.#most)
      throw new ShrinkerError("refused", `This receiver has ${this.#sessions} sessions, its limit: try again later`);
    if (identity) {
      const own = this.#own.get(identity.name) ?? 0;
      if (own >= (identity.permissions.maxSessions ?? Number.POSITIVE_INFINITY))
        throw new ShrinkerError("refused", `"${identity.name}" has ${own} sessions here, its limit: try again later`);
      this.#own.set(identity.name, own + 1);
    }
    this.#sessions++;
  }

  leave(identity: PeerIdentity | undefined): void {
    this.#sessions--;
    if (!identity) return;
    const left = (this.#own.get(identity.name) ?? 1) - 1;
    if (left > 0) this.#own.set(identity.name, left);
    else this.#own.delete(identity.name);
  }
}
