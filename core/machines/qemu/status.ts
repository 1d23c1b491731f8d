import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { abortReason, LinkError, ShrinkerError } from "../../errors.ts";
import { text } from "../../wire/map.ts";
import { type ExecuteOptions, type QmpClient, QmpTimeout } from "./qmp.ts";
import { words } from "./qmp-errors.ts";
import { ask } from "./reply.ts";

const POLL_MS = 100;
const REPLY_MS = 10_000;

/** Every status that QEMU 10 has; a newer one may have more. */
export const MIGRATION_STATES = [
  "none",
  "setup",
  "cancelling",
  "cancelled",
  "active",
  "postcopy-active",
  "postcopy-paused",
  "postcopy-recover-setup",
  "postcopy-recover",
  "completed",
  "failed",
  "colo",
  "pre-switchover",
  "device",
  "wait-unplug",
] as const;

/** How far a migration is: one of `MIGRATION_STATES`, or another word of a newer QEMU. */
export type MigrationState = (typeof MIGRATION_STATES)[number] | (string & {});

/** Where a migration that got there stays. */
const FINAL: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

/** A statistic: shown and reckoned with, so a strange one is no reason to give up. */
const statistic = v.pipe(v.union([v.number(), v.bigint()]), v.transform(Number));
const optional = v.optional(statistic, 0);
const schema = v.object({
  status: v.optional(text(64), "none"),
  ram: v.optional(
    v.object({
      transferred: statistic,
      remaining: statistic,
      total: statistic,
      normal: optional,
      duplicate: optional,
      "dirty-pages-rate": optional,
      "page-size": v.optional(statistic, 4096),
      "dirty-sync-count": optional,
      mbps: optional,
      "pages-per-second": optional,
    }),
  ),
  downtime: v.optional(statistic),
  "expected-downtime": v.optional(statistic),
  "total-time": v.optional(statistic),
  "setup-time": v.optional(statistic),
  "error-desc": v.optional(v.string()),
});

export interface RamStatus {
  /** Bytes sent so far, of RAM and all else. */
  readonly transferred: number;
  /** Bytes that are dirty. */
  readonly remaining: number;
  /** Bytes of the guest's RAM. */
  readonly total: number;
  /** Pages sent whole, and pages of zeros. */
  readonly normalPages: number;
  readonly duplicatePages: number;
  /** Pages a second, as of the last round. */
  readonly dirtyPagesRate: number;
  readonly pageSize: number;
  /** Rounds begun. */
  readonly iterations: number;
  /** 10^6 bits a second. */
  readonly mbps: number;
  readonly pagesPerSecond: number;
}

export interface MigrationStatus {
  readonly status: MigrationState;
  readonly ram?: RamStatus;
  /** Times in milliseconds. */
  readonly downtimeMs?: number;
  readonly expectedDowntimeMs?: number;
  readonly totalMs?: number;
  readonly setupMs?: number;
  /** Why it failed, in QEMU's words. */
  readonly error?: string;
}

/** Asks how far the migration is, of the source or of the destination, which has no numbers. */
export async function migrationStatus(qmp: QmpClient, options: ExecuteOptions = {}): Promise<MigrationStatus> {
  const reply = await ask(qmp, schema, "query-migrate", {}, options);
  const { ram } = reply;
  return {
    status: reply.status,
    ...(ram && {
      ram: {
        transferred: ram.transferred,
        remaining: ram.remaining,
        total: ram.total,
        normalPages: ram.normal,
        duplicatePages: ram.duplicate,
        dirtyPagesRate: ram["dirty-pages-rate"],
        pageSize: ram["page-size"],
        iterations: ram["dirty-sync-count"],
        mbps: ram.mbps,
        pagesPerSecond: ram["pages-per-second"],
      },
    }),
    ...(reply.downtime !== undefined && { downtimeMs: reply.downtime }),
    ...(reply["expected-downtime"] !== undefined && { expectedDowntimeMs: reply["expected-downtime"] }),
    ...(reply["total-time"] !== undefined && { totalMs: reply["total-time"] }),
    ...(reply["setup-time"] !== undefined && { setupMs: reply["setup-time"] }),
    ...(reply["error-desc"] !== undefined && { error: words(reply["error-desc"]) }),
  };
}

export interface WaitOptions {
  /** Ends the wait, not the migration. */
  readonly signal: AbortSignal;
  /** Milliseconds; unless given, only the signal ends it. */
  readonly timeout?: number;
  /** Is told each status that is seen, about ten times a second. */
  readonly onStatus?: (status: MigrationStatus) => void;
}

/**
 * Waits until a migration has a status that is `wanted`, or has had one since the call, and gives the latest. Rejects with
 * `input` and QEMU's words once it ends in another way, a `LinkError` when the time is over or the connection is lost, the
 * signal's reason when that is aborted. A QEMU that is too busy to answer is waited for.
 */
export async function waitForStatus(
  qmp: QmpClient,
  wanted: readonly string[],
  { signal, timeout = Infinity, onStatus }: WaitOptions,
): Promise<MigrationStatus> {
  const until = performance.now() + timeout;
  let wake = Promise.withResolvers<void>();
  let passed = false;
  let latest = "unknown";
  const stopListening = qmp.onEvent(({ event, data }) => {
    if (event !== "MIGRATION") return;
    if (typeof data.status === "string" && wanted.includes(data.status)) passed = true;
    wake.resolve();
  });
  const aborted = Promise.withResolvers<never>();
  // What is pending is rejected by its own; this only ends a wait for it.
  aborted.promise.catch(() => {});
  const onAbort = () => aborted.reject(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  try {
    for (;;) {
      const left = until - performance.now();
      if (left <= 0)
        throw new LinkError(
          `The migration at "${qmp.path}" is not ${wanted.join(" or ")} within ${timeout / 1000} s: it is ${latest}`,
        );
      wake = Promise.withResolvers<void>();
      const asked = migrationStatus(qmp, { timeout: Math.min(REPLY_MS, left) }).catch(unlessLate);
      const status = await Promise.race([asked, aborted.promise]);
      if (status) {
        latest = status.status;
        onStatus?.(status);
        if (wanted.includes(latest)) return status;
        if (FINAL.has(latest)) {
          if (latest === "completed" && passed) return status;
          throw unlike(qmp, wanted, status);
        }
      }
      const timer = new AbortController();
      const pause = sleep(Math.min(POLL_MS, left), undefined, { signal: timer.signal }).catch(() => {});
      await Promise.race([pause, wake.promise, aborted.promise]).finally(() => timer.abort());
    }
  } finally {
    stopListening();
    signal.removeEventListener("abort", onAbort);
  }
}

/** While QEMU writes the last part of a guest to a link that stalls, it answers nobody. */
function unlessLate(error: unknown): undefined {
  if (!(error instanceof QmpTimeout)) throw error;
  return undefined;
}

function unlike(qmp: QmpClient, wanted: readonly string[], { status, error }: MigrationStatus): ShrinkerError {
  if (status === "completed")
    return new ShrinkerError(
      "input",
      `The migration at "${qmp.path}" has completed, without being ${wanted.join(" or ")}`,
    );
  const why = error ?? "QEMU gives no reason";
  return new ShrinkerError(
    "input",
    `The migration at "${qmp.path}" ${status === "failed" ? "has failed" : "was cancelled"}: ${why}`,
  );
}
