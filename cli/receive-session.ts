import { noCounters } from "../core/engine/counters.ts";
import { acceptSession, type DestinationOptions, type DestinationSession } from "../core/engine/destination-session.ts";
import { MissingContentsError } from "../core/engine/missing.ts";
import type { ReceivedStream } from "../core/engine/received-streams.ts";
import { ResumedSession } from "../core/engine/resumable.ts";
import type { ShrinkerError } from "../core/errors.ts";
import type { ArrivalFate, Arrivals } from "../core/handover/destination/arrivals.ts";
import { countBytes } from "../core/transport/count.ts";
import type { Connection } from "../core/transport/transport.ts";
import type { Signed } from "../core/wire/control.ts";
import { carried } from "./carrier.ts";
import { asError, verdict } from "./exit.ts";
import type { Gauge } from "./progress.ts";
import { receivingTarget, type TargetOptions } from "./receive-target.ts";
import type { SignerDescription } from "./senders.ts";
import { bytesOf, hex, type SessionSummary, type StreamSummary } from "./summary.ts";

export interface ReceivingOptions extends DestinationOptions, TargetOptions {
  /** Takes guests in that run. */
  readonly arrivals?: Arrivals | undefined;
  /** Whether the peer may bring a guest of this name; any, where it is not given. */
  readonly mayBring?: ((name: string) => boolean) | undefined;
  /** Of a bundle that was read to its end: says who has signed it, for `--json` and for people. */
  readonly describeSigner?: (signed: Signed | undefined) => SignerDescription;
}

/** A session that goes on, at the destination. */
export interface Receiving {
  gauge(): Gauge;
  /** Resolves when it is over, also where it failed. Rejects only with `ResumedSession`: the connection is an earlier session's. */
  readonly summary: Promise<ReceivedSummary>;
}

export interface ReceivedSummary extends SessionSummary {
  /** Names of the guests that have arrived. */
  readonly guests: readonly string[];
  /** What else is to be told to people. */
  readonly note?: string | undefined;
}

/** Receives one session over a connection. */
export function startReceiving(accepted: Connection, options: ReceivingOptions): Receiving {
  const connection = countBytes(accepted);
  const begun = performance.now();
  let session: DestinationSession | undefined;
  const counters = () => session?.receiver.counters ?? noCounters();
  const wire = () => (session ? session.wire.in + session.wire.out : connection.bytesIn + connection.bytesOut);

  const guests = options.arrivals?.session(async (payload) => session?.tell(payload), options.mayBring);

  async function receive(): Promise<ReceivedSummary> {
    let broke: ShrinkerError | undefined;
    let outcomes: ReceivedStream[] = [];
    let fates: readonly ArrivalFate[] = [];
    let signer: SignerDescription | undefined;
    try {
      const target = receivingTarget(options, guests, () => session?.sender);
      session = await acceptSession(connection, { ...options, target, ...(guests && { told: guests.told }) });
      const { software, domain } = session.agreement;
      options.event({ type: "opened", peer: connection.peer, ...carried(connection), software, domain });
      outcomes = await session.run();
      signer = options.describeSigner?.(session.agreement.signed);
    } catch (error) {
      if (error instanceof ResumedSession) throw error;
      broke = asError(error);
      if (broke instanceof MissingContentsError) options.event(missingEvent(broke));
      outcomes = (await session?.receiver.outcomes()) ?? [];
    } finally {
      fates = (await guests?.ended()) ?? [];
    }
    const streams = outcomes.map((outcome) => summarize(outcome, options.dryRun));
    for (const { name, error } of streams) if (error) options.event({ type: "failed", name, ...error });
    const wrong = outcomes.find(({ error }) => error)?.error;
    return {
      counters: counters(),
      wire: wire(),
      seconds: (performance.now() - begun) / 1000,
      streams,
      error: options.dryRun ? (broke ?? wrong) : overall(streams, fates, broke),
      guests: fates.filter(({ landed }) => landed).map(({ name }) => name),
      more: {
        ...carried(connection),
        ...(options.dryRun && { dryRun: true }),
        ...(fates.length > 0 && { guests: fates.map(guestEvent) }),
        ...signer?.event,
      },
      note: signer?.line,
    };
  }

  return {
    gauge: () => ({
      phase: session ? "receiving" : "waiting",
      counters: counters(),
      wire: wire(),
      done: session?.offset ?? 0,
      total: undefined,
    }),
    summary: receive(),
  };
}

/** A guest that waits for a word which may still come is told before all else. */
function overall(streams: readonly StreamSummary[], fates: readonly ArrivalFate[], broke: ShrinkerError | undefined) {
  const unsettled = fates.find(({ error }) => error?.code === "unsettled")?.error;
  const only = streams.length === 0 && fates.length > 0;
  return unsettled ?? verdict([...streams, ...fates], broke, only ? "guests have arrived" : undefined);
}

function guestEvent({ name, landed, error }: ArrivalFate): object {
  return { name, landed, ...(error && { error: { code: error.code, message: error.message } }) };
}

function missingEvent({ index, contents, digests }: MissingContentsError): object {
  return { type: "missing", ...(index && { index: hex(index) }), contents, digests };
}

function summarize({ stream, error }: ReceivedStream, dryRun: boolean): StreamSummary {
  return {
    name: stream.info.name,
    format: stream.info.format,
    digest: hex(stream.digest),
    ...(stream.sha256 && { sha256: hex(stream.sha256) }),
    bytes: bytesOf(stream.counters),
    landed: !error && !dryRun,
    ...(error && { error: { code: error.code, message: error.message } }),
  };
}
