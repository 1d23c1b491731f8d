import { PageBitmap } from "./bitmap.ts";

/** How long pages are counted until their number makes a rate, in milliseconds. */
const RATE_MS = 1000;

/** The pages that are still to be sent: first all, then those that the guest has written since. */
export class PageQueue {
  readonly #pending: PageBitmap;
  readonly #log: PageBitmap;
  #cursor = 0;
  #written = 0;
  #since = performance.now();
  /** Pages that the guest writes in a second, as last measured. */
  dirtyRate = 0;

  /** @param log takes note of what the guest writes, from now on */
  constructor(log: PageBitmap) {
    this.#log = log;
    this.#pending = new PageBitmap(log.size);
    this.#pending.addAll();
    log.clear();
  }

  get count(): number {
    return this.#pending.count;
  }

  add(page: number): void {
    this.#pending.add(page);
  }

  /** Takes the next one, in turn; -1 where there is none. */
  next(): number {
    let page = this.#pending.next(this.#cursor);
    if (page < 0) page = this.#pending.next(0);
    if (page < 0) return -1;
    this.#cursor = page + 1;
    this.#pending.remove(page);
    return page;
  }

  /** Adds what the guest has written since the last time, and begins with the lowest page again. */
  sync(): void {
    this.#written += this.#log.count;
    const ms = performance.now() - this.#since;
    if (ms >= RATE_MS) {
      this.dirtyRate = Math.round((this.#written * 1000) / ms);
      this.#written = 0;
      this.#since = performance.now();
    }
    this.#pending.takeFrom(this.#log);
    this.#cursor = 0;
  }
}
