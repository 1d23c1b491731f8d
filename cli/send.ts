import { noCounters } from "../core/engine/counters.ts";
import { type StreamOutcome, sendAll } from "../core/engine/migration.ts";
import type { Redial } from "../core/engine/reconnect.ts";
import { openSession, type SourceOptions, type SourceSession } from "../core/engine/source-session.ts";
import type { ShrinkerError } from "../core/errors.ts";
import type { StreamSource } from "../core/machines/machine.ts";
import { countBytes } from "../core/transport/count.ts";
import type { Connection } from "../core/transport/transport.ts";
import type { Limited } from "./bandwidth.ts";
import { carried, overCarrier } from "./carrier.ts";
import type { Invocation } from "./command.ts";
import { asError, exitCode, verdict } from "./exit.ts";
import { followLink } from "./link-state.ts";
import { type Gauge, showProgress } from "./progress.ts";
import { bytesOf, hex, type SessionSummary, type StreamSummary, sessionEvent, sessionTable } from "./summary.ts";

export interface Sending {
  readonly sources: readonly StreamSource[];
  /** Bytes of all of them, where that is known. */
  readonly total: number | undefined;
  dial(): Promise<Connection>;
  /** Dials again when the connection is lost; undefined where that is of no use. */
  readonly redial?: Redial | undefined;
  readonly options: SourceOptions;
  readonly parallel: number;
  readonly limited?: Limited;
  /** Whether nothing is kept, so that nothing can land. */
  readonly dryRun: boolean;
  /** Of the wire bytes, in the table: `on the wire`. */
  readonly wireName: string;
  /** What else the summary says, at the end: fields, and a line for people. */
  more(): object;
  readonly note?: () => string;
}

/** Sends machines over a session of their own, shows how it goes, and sums it up. Resolves with the exit code. */
export async function send(sending: Sending, { options, output, interrupt }: Invocation): Promise<number> {
  const { sources, total, parallel, dryRun } = sending;
  const { signal } = interrupt;
  const begun = performance.now();
  let phase = "connecting";
  let session: SourceSession | undefined;
  let broke: ShrinkerError | undefined;
  const outcomes = new Map<string, StreamOutcome>();
  const connection = countBytes(await sending.dial());
  const wire = () => (session ? session.wire.in + session.wire.out : connection.bytesIn + connection.bytesOut);
  const link = followLink(output.note, output.event);
  const gauge = (): Gauge => {
    const counters = session?.sender.counters ?? noCounters();
    if (total !== undefined && counters.plain >= total && session) phase = "finishing";
    return { phase: link.lost ? "reconnecting" : phase, counters, wire: wire(), done: counters.plain, total };
  };
  const progress = showProgress(output, !options.flag("no-progress"), gauge);
  try {
    const { limited = (connection) => connection, redial } = sending;
    session = await openSession(limited(connection), {
      ...sending.options,
      onLink: link.onLink,
      redial: redial && (async (signal) => limited(await redial(signal))),
    });
    phase = "sending";
    const { software, domain } = session.agreement;
    output.event({ type: "opened", peer: connection.peer, ...carried(connection), software, domain });
    if (connection.carrier) output.note(`connected to ${connection.peer}${overCarrier(connection)}`);
    const settled = (outcome: StreamOutcome) => {
      outcomes.set(outcome.name, outcome);
      const { name, error } = outcome;
      if (!connection.duplex) return;
      if (error) output.event({ type: "failed", name, code: error.code, message: error.message });
      else output.event({ type: "landed", name });
    };
    await sendAll(session, sources, connection.duplex, { parallel, signal, settled });
  } catch (error) {
    broke = asError(error);
    await session?.abort(broke);
  } finally {
    progress.stop();
  }

  // What is recorded is complete, or is not there at all.
  const lost = broke !== undefined && !connection.duplex;
  const streams = sources.map(({ info }) => summarize(info, outcomes.get(info.name), lost, dryRun));
  const complete = streams.every(({ landed }) => landed);
  const error = dryRun ? broke : verdict(streams, complete ? undefined : broke);
  const summary: SessionSummary = {
    counters: session?.sender.counters ?? noCounters(),
    wire: wire(),
    seconds: (performance.now() - begun) / 1000,
    streams,
    error,
    more: { ...carried(connection), ...sending.more(), ...(dryRun && { dryRun }) },
  };
  if (!error || streams.some(({ landed }) => landed)) {
    output.result([...sessionTable(summary, sending.wireName), ...(sending.note ? [sending.note()] : [])]);
  }
  if (error) output.error(error);
  output.event({ type: "summary", ...sessionEvent(summary) });
  return error ? (interrupt.code ?? exitCode(error)) : 0;
}

/** Bytes of all streams; undefined where one doesn't tell. */
export function totalSize(sources: readonly StreamSource[]): number | undefined {
  let total = 0;
  for (const { info } of sources) {
    if (info.size === undefined) return undefined;
    total += info.size;
  }
  return total;
}

function summarize(
  { name, format }: StreamSource["info"],
  outcome: StreamOutcome | undefined,
  lost: boolean,
  dryRun: boolean,
): StreamSummary {
  const sent = outcome?.sent;
  return {
    name,
    format,
    ...(sent && { digest: hex(sent.digest), bytes: bytesOf(sent.counters) }),
    ...(sent?.sha256 && { sha256: hex(sent.sha256) }),
    landed: outcome !== undefined && !outcome.error && !lost && !dryRun,
    ...(outcome?.error && { error: { code: outcome.error.code, message: outcome.error.message } }),
  };
}
