import { addCounters, noCounters } from "../core/engine/counters.ts";
import { ResumableSessions, ResumedSession } from "../core/engine/resumable.ts";
import { ShrinkerError } from "../core/errors.ts";
import type { Connection, Listener } from "../core/transport/transport.ts";
import { Strangers } from "../transports/strangers.ts";
import { Admission } from "./admission.ts";
import { overCarrier } from "./carrier.ts";
import { followLink } from "./link-state.ts";
import type { Output } from "./output.ts";
import { asPermitted } from "./peers.ts";
import { type ReceivedSummary, type ReceivingOptions, startReceiving } from "./receive-session.ts";
import type { Interrupt } from "./signals.ts";
import { sessionEvent } from "./summary.ts";
import { formatBytes, formatSeconds } from "./units.ts";

export interface ServeOptions {
  readonly maxSessions: number;
  readonly output: Output;
  readonly interrupt: Interrupt;
}

/** Receives sessions, several at once, until a signal comes. A session that fails stops no other. */
export async function serve(listener: Listener, receiving: ReceivingOptions, options: ServeOptions): Promise<number> {
  const { maxSessions, output, interrupt } = options;
  const begun = performance.now();
  const sessions = new Set<Promise<void>>();
  const sum = { counters: noCounters(), wire: 0, sessions: 0, failed: 0 };
  const resumables = new ResumableSessions();
  const admission = new Admission(maxSessions);
  const dropped = new WeakSet<Connection>();
  /** Those that have not introduced themselves yet. */
  const strangers = new Strangers<Connection>((connection) => {
    dropped.add(connection);
    void connection.destroy();
  });

  async function run(connection: Connection, session: number): Promise<void> {
    const { identity } = connection;
    const peer = identity ? `${identity.name} (${connection.peer})` : connection.peer;
    const who = identity && { identity: { name: identity.name, key: identity.key } };
    let admitted = false;
    const admit = () => {
      admission.enter(identity);
      admitted = true;
      strangers.release(connection);
    };
    const event = (value: object) => output.event({ ...value, session });
    const { onLink } = followLink((line) => output.note(`session ${session} of ${peer}: ${line}`), event);
    const options = asPermitted({ ...receiving, admit, event, onLink, resumables }, identity);
    const summary = await startReceiving(connection, options).summary.catch(belongsToAnother);
    strangers.release(connection);
    if (admitted) admission.leave(identity);
    // Of strangers that were dropped there may be any number.
    if (!summary || dropped.has(connection)) return;
    addCounters(sum.counters, summary.counters);
    sum.wire += summary.wire;
    sum.sessions++;
    const { error } = summary;
    if (error) {
      sum.failed++;
      const some = summary.guests.length > 0 || summary.streams.some((stream) => stream.landed);
      const landed = some ? ` (${describe(summary)})` : "";
      output.error(new ShrinkerError(error.code, `Session ${session} of ${peer}${landed}: ${error.message}`, error));
    } else output.note(`session ${session} of ${peer}${overCarrier(connection)}: ${describe(summary)}`);
    output.event({ type: "session", session, peer: connection.peer, ...who, ...sessionEvent(summary) });
  }

  try {
    for (let number = 1; ; number++) {
      const connection = await listener.accept();
      if (!connection) break;
      strangers.add(connection);
      const session = run(connection, number);
      sessions.add(session);
      void session.finally(() => sessions.delete(session));
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  } finally {
    await Promise.all(sessions);
  }
  const { counters, wire } = sum;
  const more = { sessions: sum.sessions, failed: sum.failed };
  const seconds = (performance.now() - begun) / 1000;
  const summary = { counters, wire, seconds, streams: [], error: undefined, more };
  output.event({ type: "summary", ...sessionEvent(summary) });
  return interrupt.code ?? 0;
}

/** A connection that goes on with an earlier session is none of its own. */
function belongsToAnother(error: unknown): undefined {
  if (!(error instanceof ResumedSession)) throw error;
}

/** `a.qevm, b.qevm landed, 383.0 MB plain, 84.0 MB on the wire, 3.1 s`. */
function describe({ streams, guests, counters, wire, seconds }: ReceivedSummary): string {
  const landed = [...guests, ...streams.filter((stream) => stream.landed).map(({ name }) => name)];
  const some = landed.length > 5 ? `${landed.slice(0, 4).join(", ")} and ${landed.length - 4} more` : landed.join(", ");
  const bytes = `${formatBytes(counters.plain)} plain, ${formatBytes(wire)} on the wire`;
  return `${some || "nothing"} landed, ${bytes}, ${formatSeconds(seconds)}`;
}
