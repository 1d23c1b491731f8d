import type { Counters } from "../core/engine/counters.ts";
import type { ShrinkerError } from "../core/errors.ts";
import type { MoveOutcome } from "../core/handover/source/outcome.ts";
import { carried } from "./carrier.ts";
import { verdict } from "./exit.ts";
import { sessionEvent, sessionTable } from "./summary.ts";
import { table } from "./text.ts";
import { formatSeconds } from "./units.ts";

export interface LiveSummary {
  readonly outcomes: readonly MoveOutcome[];
  readonly error: ShrinkerError | undefined;
}

export interface LiveSums {
  readonly counters: Counters;
  readonly wire: number;
  readonly seconds: number;
  readonly compress: string;
  readonly carrier?: string | undefined;
}

/** What the command ends with: nothing where all have moved; a guest whose place is unknown is told before all else. */
export function liveVerdict(outcomes: readonly MoveOutcome[]): ShrinkerError | undefined {
  const unknown = outcomes.find(({ where }) => where === "unknown");
  if (unknown?.error) return unknown.error;
  const fates = outcomes.map(({ name, where, error }) => ({
    name,
    landed: where === "destination",
    ...(error && { error: { code: error.code, message: error.message } }),
  }));
  return verdict(fates, undefined, "guests have moved");
}

const PLACES = { destination: "moved", source: "stayed", unknown: "unknown", nowhere: "ended" } as const;

export function liveTable({ outcomes }: LiveSummary, sums: LiveSums): string[] {
  if (outcomes.length === 0) return [];
  const rows = outcomes.map(({ name, where, departed, error }) => [
    name,
    PLACES[where],
    departed ? formatSeconds(departed.totalMs / 1000) : "",
    departed?.downtimeMs === undefined ? "" : `${Math.round(departed.downtimeMs)} ms`,
    error ? error.code : "",
  ]);
  const totals = sessionTable({ ...sums, streams: [], error: undefined });
  return [...table([["guest", "", "time", "downtime", ""], ...rows], 2), totals.at(-1)!];
}

/** What `--json` says in the end; times in seconds, the downtime in milliseconds. */
export function liveEvent({ outcomes, error }: LiveSummary, { compress, carrier, ...sums }: LiveSums): object {
  const guests = outcomes.map(({ name, where, departed, error }) => ({
    name,
    where,
    ...(departed && { seconds: Math.round(departed.totalMs) / 1000 }),
    ...(departed?.downtimeMs !== undefined && { downtime: Math.round(departed.downtimeMs) }),
    ...(error && { error: { code: error.code, message: error.message } }),
  }));
  return sessionEvent({ ...sums, streams: [], error, more: { ...carried({ carrier }), compress, guests } });
}
