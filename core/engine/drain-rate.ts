import { RecentRate } from "./recent-rate.ts";

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
  readonly #recent: RecentRate;

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number = () => performance.now()) {
    this.#recent = new RecentRate(now);
  }

  /** So many plain bytes have gone. */
  left(plain: number): void {
    this.#recent.add(plain);
  }

  /** Plain bytes of one of so many streams that may wait. */
  room(streams: number): number {
    return Math.max(MIN_ROOM, ((this.#recent.rate ?? 0) * DRAIN_MS) / streams);
  }
}
