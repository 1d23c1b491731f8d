import { setTimeout as sleep } from "node:timers/promises";
import { abortReason, LinkError, ProtocolError, type ShrinkerError } from "../errors.ts";
import { UntrustedPeerError } from "../transport/security.ts";
import type { Connection } from "../transport/transport.ts";
import { Abort, decodeControl, encodeControl, Resume, Resumed } from "../wire/control.ts";
import { opening } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { Channel } from "./channel.ts";
import { asShrinkerError, heard } from "./told.ts";

/** Milliseconds before the first attempts; the last stands for all that follow. */
export const BACK_OFF: readonly number[] = [0, 200, 500, 1000, 2000];
/** So many sources may have lost the same link: they don't come back all at once. */
const JITTER = 0.25;

export type Redial = (signal: AbortSignal) => Promise<Connection>;

/** The peer has answered: another attempt would hear the same. */
class Refusal extends Error {
  readonly why: ShrinkerError;
  constructor(why: ShrinkerError) {
    super(why.message);
    this.why = why;
  }
}

/** What names a session, and what only its source knows. */
export interface Ticket {
  readonly session: Uint8Array;
  readonly secret: Uint8Array;
}

/** A time without a connection that was good for something. */
export interface Outage {
  /** When the last connection was lost, in milliseconds of a monotonic clock. */
  since: number;
  /** Milliseconds without a connection before that. */
  spent: number;
  /** Why the connection was lost, or the last attempt failed. */
  reason: Error;
  attempts: number;
}

/** The peer's answer: its connection, and the number of the first frame that it has not received. */
export interface Reconnected {
  readonly channel: Channel;
  readonly received: number;
}

export interface ReconnectOptions {
  readonly redial: Redial;
  readonly ticket: Ticket;
  /** The number of the first frame that was not received. */
  readonly received: number;
  /** Continued where an earlier connection was of no use. */
  readonly outage: Outage;
  /** Milliseconds that an attempt may take. */
  readonly attemptMs: number;
  /** Milliseconds before the first attempts; the last stands for all that follow. */
  readonly backOff: readonly number[];
  readonly signal: AbortSignal;
}

/**
 * Dials until the peer goes on with the session. Rejects with the signal's reason, or with what another attempt would not
 * change: the peer doesn't know the session any more, or can't go on with it.
 */
export async function reconnect(options: ReconnectOptions): Promise<Reconnected> {
  const { outage, signal, backOff } = options;
  for (;;) {
    const delay = backOff[Math.min(outage.attempts++, backOff.length - 1)] ?? 0;
    if (delay > 0) await sleep(delay * (1 + JITTER * (2 * Math.random() - 1)), undefined, { signal }).catch(() => {});
    if (signal.aborted) throw abortReason(signal);
    try {
      return await attempt(options);
    } catch (error) {
      if (error instanceof Refusal) throw error.why;
      if (signal.aborted || !(error instanceof LinkError || error instanceof UntrustedPeerError)) throw error;
      // Somebody else who answers for a while must not end a session that whoever is expected could go on with.
      outage.reason = error;
    }
  }
}

async function attempt({ redial, ticket, received, attemptMs, signal }: ReconnectOptions): Promise<Reconnected> {
  const trying = new AbortController();
  const late = () => trying.abort(new LinkError(`it did not answer within ${Math.ceil(attemptMs / 1000)} s`));
  const timer = setTimeout(late, attemptMs);
  const cancel = () => trying.abort(abortReason(signal));
  signal.addEventListener("abort", cancel, { once: true });
  let connection: Connection | undefined;
  const drop = () => void connection?.destroy(abortReason(trying.signal));
  trying.signal.addEventListener("abort", drop, { once: true });
  try {
    connection = await redial(trying.signal);
    if (trying.signal.aborted) throw abortReason(trying.signal);
    return await ask(new Channel(connection), { ...ticket, received });
  } catch (error) {
    await connection?.destroy(asShrinkerError(error));
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", cancel);
    trying.signal.removeEventListener("abort", drop);
  }
}

async function ask(channel: Channel, resume: Ticket & { readonly received: number }): Promise<Reconnected> {
  const { peer } = channel.connection;
  const bytes = opening(FRAME.RESUME, encodeControl(Resume, resume));
  await channel.connection.write([bytes]);
  channel.bytesOut += bytes.length;
  await channel.reader.preface();
  const frame = await channel.next();
  if (frame === undefined) throw new LinkError(`${peer} closed the connection without a word`);
  if (frame.type === FRAME.RESUMED) return { channel, received: decodeControl(Resumed, frame.payload).received };
  if (frame.type !== FRAME.ABORT) throw new ProtocolError(`${peer} sent a frame of type ${frame.type} to a RESUME`);
  const { code, message } = decodeControl(Abort, frame.payload);
  // That may be another time.
  if (code === "link") throw new LinkError(heard(code, message, "The other end can't take it now: ").message);
  throw new Refusal(heard(code, message, "The other end does not go on with the session: "));
}
