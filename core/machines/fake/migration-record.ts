import { PAGE_SIZE } from "../../content/page.ts";
import type { ChannelAddress } from "./channel.ts";
import type { EventLog } from "./events.ts";

export type MigrationStatus =
  | "none"
  | "setup"
  | "active"
  | "pre-switchover"
  | "device"
  | "completed"
  | "cancelling"
  | "cancelled"
  | "failed";

/** Counters of an outgoing migration, as `query-migrate` has them. Times are milliseconds, sizes bytes unless pages are said. */
export interface RamCounters {
  total: number;
  /** Pages. */
  remaining: number;
  transferred: number;
  precopyBytes: number;
  downtimeBytes: number;
  /** Pages. */
  normal: number;
  zeros: number;
  syncs: number;
  /** Pages a second. */
  dirtyRate: number;
  mbps: number;
  pagesPerSecond: number;
}

/** A migration has got further. */
export interface MigrationChange {
  readonly direction: "in" | "out";
  readonly status: MigrationStatus;
  /** What went wrong, as `query-migrate` says it. */
  readonly error?: string;
}

/** The state of a VM's migration, out or in. */
export class MigrationRecord {
  readonly #events: EventLog;
  readonly #tellsEvents: () => boolean;
  readonly #changed: (change: MigrationChange) => void;
  #status: MigrationStatus = "none";
  error: string | undefined;
  /** Where an incoming migration is awaited. */
  address: ChannelAddress | undefined;
  ram: RamCounters | undefined;
  setupTime: number | undefined;
  downtime: number | undefined;
  expectedDowntime = 0;
  #began = 0;
  #ended: number | undefined;

  /** @param tellsEvents whether the capability `events` is on */
  constructor(events: EventLog, tellsEvents: () => boolean, changed: (change: MigrationChange) => void) {
    this.#changed = changed;
    this.#events = events;
    this.#tellsEvents = tellsEvents;
  }

  get status(): MigrationStatus {
    return this.#status;
  }

  /** Whether one goes on that another would disturb. */
  get busy(): boolean {
    return !["none", "completed", "cancelled", "failed"].includes(this.#status);
  }

  begin(): void {
    this.error = this.ram = this.setupTime = this.downtime = this.#ended = undefined;
    this.#began = performance.now();
    this.set("setup");
  }

  set(status: MigrationStatus): void {
    if (status === this.#status) return;
    this.#status = status;
    if (!this.busy) this.#ended = performance.now();
    if (this.#tellsEvents()) this.#events.emit("MIGRATION", { status });
    const direction = this.address ? "in" : "out";
    this.#changed({ direction, status, ...(this.error !== undefined && { error: this.error }) });
  }

  pass(pass: number): void {
    if (this.#tellsEvents()) this.#events.emit("MIGRATION_PASS", { pass });
  }

  /** What `query-migrate` returns. */
  describe(): Record<string, unknown> {
    const status = this.#status;
    if (status === "none") return {};
    const error = this.error !== undefined && { "error-desc": this.error };
    const address = this.address && this.busy && { "socket-address": [describeSocket(this.address)] };
    if (!this.ram || status === "setup" || status === "failed" || status === "cancelled")
      return { status, ...error, ...address };
    const time = {
      "setup-time": this.setupTime,
      "total-time": Math.round((this.#ended ?? performance.now()) - this.#began),
    };
    const down =
      status === "completed" ? { downtime: this.downtime } : { "expected-downtime": Math.round(this.expectedDowntime) };
    return { status, ...error, ...time, ...down, ram: describeRam(this.ram) };
  }
}

function describeRam(ram: RamCounters): Record<string, number> {
  return {
    total: ram.total,
    "postcopy-requests": 0,
    "dirty-sync-count": ram.syncs,
    "multifd-bytes": 0,
    "pages-per-second": ram.pagesPerSecond,
    "downtime-bytes": ram.downtimeBytes,
    "page-size": PAGE_SIZE,
    remaining: ram.remaining * PAGE_SIZE,
    "postcopy-bytes": 0,
    mbps: ram.mbps,
    transferred: ram.transferred,
    "dirty-sync-missed-zero-copy": 0,
    "precopy-bytes": ram.precopyBytes,
    duplicate: ram.zeros,
    "dirty-pages-rate": ram.dirtyRate,
    "normal-bytes": ram.normal * PAGE_SIZE,
    normal: ram.normal,
  };
}

function describeSocket(address: ChannelAddress): Record<string, unknown> {
  if (address.type === "unix") return { path: address.path, type: "unix" };
  return { port: String(address.port), ipv4: true, host: address.host, type: "inet" };
}
