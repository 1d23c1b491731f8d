import type { Counters } from "../core/engine/counters.ts";
import type { Phase } from "../core/handover/source/departure-context.ts";
import type { MoveOutcome } from "../core/handover/source/outcome.ts";
import type { MigrationStatus } from "../core/machines/qemu/status.ts";
import type { Invocation } from "./command.ts";
import { showProgress } from "./progress.ts";
import { formatBytes } from "./units.ts";

/** Milliseconds between two events about how far a guest is. */
const EVENT_MS = 500;

/** Of a guest with an error. */
const PLACES = {
  source: "stays here",
  destination: "runs there",
  unknown: "its place is unknown",
  nowhere: "runs nowhere",
} as const;

interface GuestProgress {
  phase: Phase;
  status: MigrationStatus | undefined;
  told: number;
  over: boolean;
}

/** Shows how far guests are: one line for all on a terminal, events for each with `--json`. */
export function watchGuests(
  { options, output }: Invocation,
  names: readonly string[],
  sums: () => { counters: Counters; wire: number; lost: boolean },
) {
  const guests = new Map<string, GuestProgress>(
    names.map((name) => [name, { phase: "begin", status: undefined, told: 0, over: false }]),
  );
  const progress = showProgress(output, !options.flag("no-progress"), () => {
    const { counters, wire, lost } = sums();
    let total = 0;
    let remaining = 0;
    for (const { status, over } of guests.values()) {
      total += status?.ram?.total ?? 0;
      if (!over) remaining += status?.ram?.remaining ?? 0;
    }
    const moving = [...guests.values()].filter(({ over, phase }) => !over && phase !== "begin").length;
    const left = [...guests.values()].filter(({ over }) => !over).length;
    const phase = lost ? "reconnecting" : `${names.length - left} of ${names.length} moved, ${moving} on the way`;
    return { phase, counters, wire, done: total - remaining, total: total || undefined };
  });
  return {
    stop: progress.stop,
    phase(name: string, phase: Phase) {
      const guest = guests.get(name);
      if (guest) guest.phase = phase;
      output.event({ type: "guest", name, phase });
    },
    status(name: string, status: MigrationStatus) {
      const guest = guests.get(name);
      if (!guest) return;
      const before = guest.status;
      guest.status = status;
      const { ram } = status;
      const now = performance.now();
      if (!ram || (now - guest.told < EVENT_MS && before?.ram?.iterations === ram.iterations)) return;
      guest.told = now;
      output.event({
        type: "round",
        name,
        status: status.status,
        round: ram.iterations,
        total: ram.total,
        remaining: ram.remaining,
        sent: ram.transferred,
        dirtyRate: ram.dirtyPagesRate * ram.pageSize,
        ...(status.expectedDowntimeMs !== undefined && { expectedDowntime: status.expectedDowntimeMs }),
      });
    },
    outcome({ name, where, departed, error }: MoveOutcome) {
      const guest = guests.get(name);
      if (guest) guest.over = true;
      const downtime = departed?.downtimeMs === undefined ? undefined : Math.round(departed.downtimeMs);
      if (error) output.event({ type: "failed", name, where, code: error.code, message: error.message });
      else output.event({ type: "moved", name, ...(downtime !== undefined && { downtime }) });
      const size = guest?.status?.ram ? `, ${formatBytes(guest.status.ram.total)} of memory` : "";
      if (error) output.note(`${name}: ${PLACES[where]}: ${error.message}`);
      else output.note(`${name}: moved${downtime === undefined ? "" : `, it stood still for ${downtime} ms`}${size}`);
    },
  };
}
