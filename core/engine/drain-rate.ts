/** Measurements older than this hardly count. */
const MEMORY_MS = 300;
/** Time in which a stage of the way to the link is to be drained. */
const DRAIN_MS = 20;
/** Less would cost more in batches than it saves in time. */
const MIN_ROOM = 128 << 10;

/**
 * How fast plain bytes leave, so that what waits can be bounded by the time it takes: a guest that stops stands still until
 * all that its QEMU has written has gone, and QEMU, which reckons with what it could write of late, has to see the link's
 * pace and not that of a buffer.
 */
export class DrainRate {
  readonly #now: () => number;
  #bytes = 0;
  #ms = 0;
  #at: number;

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#at = now();
  }

  /** So many plain bytes have gone. */
  left(plain: number): void {
    const at = this.#now();
    const kept = Math.exp((this.#at - at) / MEMORY_MS);
    this.#bytes = this.#bytes * kept + plain;
    this.#ms = this.#ms * kept + (at - this.#at);
    this.#at = at;
  }

  /** Plain bytes of one of so many streams that may wait. */
  room(streams: number): number {
    return Math.max(MIN_ROOM, this.#ms > 0 ? ((this.#bytes / this.#ms) * DRAIN_MS) / streams : 0);
  }
}
