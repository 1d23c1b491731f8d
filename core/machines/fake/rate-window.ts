import { PAGE_SIZE } from "../../content/page.ts";
import type { MigrationRecord } from "./migration-record.ts";
import type { Parameters } from "./parameters.ts";

/** QEMU limits and measures its rate over so many milliseconds. */
const WINDOW_MS = 100;

/** Below so many bytes in a window, a measured rate says little about the downtime. */
const ENOUGH = 10_000;

/** Keeps a migration within `max-bandwidth`, and estimates from what the connection takes when it can be completed. */
export class RateWindow {
  readonly #parameters: Parameters;
  readonly #migration: MigrationRecord;
  #began = performance.now();
  #bytes: number;
  #pages: number;
  /** What can be sent while the guest may be stopped, in bytes; 0 until a rate was measured. */
  threshold = 0;

  constructor(parameters: Parameters, migration: MigrationRecord) {
    this.#parameters = parameters;
    this.#migration = migration;
    this.#bytes = migration.ram!.transferred;
    this.#pages = 0;
  }

  /** @param transferred all bytes so far */
  spent(transferred: number): boolean {
    return transferred - this.#bytes >= (this.#parameters.maxBandwidth * WINDOW_MS) / 1000;
  }

  /** Takes account of what was sent, where a window is over. */
  update(): void {
    const now = performance.now();
    const ms = now - this.#began;
    if (ms < WINDOW_MS) return;
    const ram = this.#migration.ram!;
    const bytes = ram.transferred - this.#bytes;
    const pages = ram.normal + ram.zeros;
    const bandwidth = bytes / ms;
    const stated = this.#parameters.switchoverBandwidth / 1000;
    const expected = stated > 0 ? stated : bandwidth;
    this.threshold = expected * this.#parameters.downtimeLimit;
    ram.mbps = (bandwidth * 8) / 1000;
    ram.pagesPerSecond = Math.round(((pages - this.#pages) / ms) * 1000);
    if (ram.dirtyRate > 0 && bytes > ENOUGH && expected > 0)
      this.#migration.expectedDowntime = (ram.remaining * PAGE_SIZE) / expected;
    this.#began = now;
    this.#bytes = ram.transferred;
    this.#pages = pages;
  }

  /** How long to wait, in milliseconds, until more may be sent. */
  pause(): number {
    if (!this.spent(this.#migration.ram!.transferred)) return 0;
    return Math.max(0, this.#began + WINDOW_MS - performance.now());
  }
}
