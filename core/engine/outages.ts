import { LinkError } from "../errors.ts";
import { type LinkTimes, RESUME_MS } from "./link-times.ts";
import type { Outage } from "./reconnect.ts";

/**
 * The times that a link is without a connection, one after the other. Connections that were good for nothing don't end an
 * outage: attempts and time go on where they were, so that a link that breaks again and again fails in the end.
 */
export class Outages {
  readonly #limit: number;
  readonly #dials: boolean;
  #outage: Outage | undefined;
  #back: PromiseWithResolvers<void> | undefined;

  /** @param dials whether this end makes the connections */
  constructor({ resume = RESUME_MS, dead }: LinkTimes, dials: boolean) {
    // The one who dials may notice later than this side that the connection was dead.
    this.#limit = dials ? resume : resume + 2 * dead;
    this.#dials = dials;
  }

  /** Resolves when there is a connection again; undefined while there is one. Rejects with the reason of `fail`. */
  get waiting(): Promise<void> | undefined {
    return this.#back?.promise;
  }

  /**
   * @param since when the lost connection was made
   * @param useful whether something came over it
   * @returns what attempts to make another are counted in
   */
  begin(reason: Error, since: number, useful: boolean): Outage {
    this.#back = Promise.withResolvers<void>();
    this.#back.promise.catch(() => {});
    const now = performance.now();
    const fresh = useful || now - since > this.#limit;
    const { attempts, spent } = (!fresh && this.#outage) || { attempts: 0, spent: 0 };
    this.#outage = { since: now, spent, reason, attempts };
    return this.#outage;
  }

  end(): void {
    if (this.#outage) this.#outage.spent += performance.now() - this.#outage.since;
    this.#back?.resolve();
    this.#back = undefined;
  }

  fail(error: Error): void {
    this.#back?.reject(error);
  }

  /** What the link fails with, once the limit is reached. */
  expired(now: number, peer: string): LinkError | undefined {
    const { since, spent, reason, attempts } = this.#outage!;
    if (spent + now - since <= this.#limit) return undefined;
    const seconds = Math.round(this.#limit / 1000);
    const lost = `Lost the connection to ${peer}`;
    return new LinkError(
      this.#dials
        ? `${lost} and could not make it again within ${seconds} s, in ${attempts} attempts: check the network and that the receiver runs there, and run again (the last reason: ${reason.message})`
        : `${lost}, and the source did not come back within ${seconds} s: see what it said, and run it again (the reason: ${reason.message})`,
    );
  }
}
