/** Measurements older than this hardly count. */
const MEMORY_MS = 300;

/** How many bytes a millisecond there have been of late; older ones count for less and less. */
export class RecentRate {
  readonly #now: () => number;
  #bytes = 0;
  #ms = 0;
  #at: number;

  /** @param now milliseconds of a monotonic clock; the first bytes have taken from this call on */
  constructor(now: () => number) {
    this.#now = now;
    this.#at = now();
  }

  add(bytes: number): void {
    const at = this.#now();
    const kept = Math.exp((this.#at - at) / MEMORY_MS);
    this.#bytes = this.#bytes * kept + bytes;
    this.#ms = this.#ms * kept + (at - this.#at);
    this.#at = at;
  }

  /** Undefined until time has passed. */
  get rate(): number | undefined {
    return this.#ms > 0 ? this.#bytes / this.#ms : undefined;
  }
}
