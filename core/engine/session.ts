import { abortReason, IntegrityError, LinkError } from "../errors.ts";
import type { StreamTarget } from "../machines/machine.ts";
import { hashWrites } from "../transport/hash.ts";
import type { Connection } from "../transport/transport.ts";
import {
  Done,
  decodeControl,
  decodeSummaryPiece,
  encodeControl,
  encodeSummaryPiece,
  Summarize,
} from "../wire/control.ts";
import { FRAME, RETURN_STREAMS, SUMMARY_PIECE } from "../wire/numbers.ts";
import { fixedCodec } from "./codec-policy.ts";
import { type Directions, failBoth, route } from "./directions.ts";
import { type Agreement, answer, type Greeting, greet, type Welcoming } from "./handshake.ts";
import { Link } from "./link.ts";
import type { LinkTimes } from "./link-times.ts";
import { type ReceivedStream, Receiver, type ReceiverOptions } from "./receiver.ts";
import { Sender, type SenderOptions } from "./sender.ts";
import { checkSignature, encodeSignature, type RecordingSigner } from "./signature.ts";
import { type DestinationSite, EMPTY_SITE, type SiteKnowledge, type SiteMemory } from "./site.ts";
import { ended, unexpected } from "./told.ts";

interface CommonOptions {
  readonly signal: AbortSignal;
  readonly times?: LinkTimes | undefined;
  /** Takes what the peer's mover of machines says, in order; what it throws ends the session. */
  readonly told?: ((payload: Buffer) => void) | undefined;
}

export interface SourceOptions extends CommonOptions, Greeting, Omit<SenderOptions, "windowLog" | "logLimit"> {
  /** What is remembered of sites; asked where the destination says which one it is. */
  readonly memory?: SiteMemory | undefined;
  /** Where streams go that the destination opens, if `returns` allows any. */
  readonly target?: StreamTarget | undefined;
  /** Signs the session where it is a recording. */
  readonly signed?: RecordingSigner | undefined;
}

type Negotiated = "windowLog" | "logLimit" | "site" | "keepers" | "index" | "signed" | "connections";

export interface DestinationOptions extends CommonOptions, Welcoming, Omit<ReceiverOptions, Negotiated> {}

/** What an end of a session can do besides its main direction. */
interface Speaking {
  /** Says something to the peer's mover of machines. */
  tell(payload: Buffer): Promise<void>;
  /** Bytes that went each way so far, over all connections. */
  readonly wire: { readonly in: number; readonly out: number };
}

/** The source's end of a session. */
export interface SourceSession extends Speaking {
  readonly agreement: Agreement;
  readonly sender: Sender;
  /** Settles when the session has failed: rejects with why. */
  readonly failed: Promise<never>;
  /** Says that no stream comes any more, waits for the destination's word that all have landed or failed, and ends the link. */
  finish(streams: number): Promise<void>;
  /** Tells the destination why, and drops the link. */
  abort(error: Error): Promise<void>;
}

/** Opens a session over a connection, as the source of its streams. The session owns the connection from now on. */
export async function openSession(dialled: Connection, options: SourceOptions): Promise<SourceSession> {
  const signer = dialled.duplex ? undefined : options.signed;
  const hashed = signer && hashWrites(dialled);
  const link = new Link(hashed ?? dialled, options.times);
  let giveUp: (reason: Error) => unknown = (reason) => link.abort(reason);
  const cancel = () => void giveUp(abortReason(options.signal));
  options.signal.addEventListener("abort", cancel, { once: true });
  let knowledge: SiteKnowledge | undefined;
  try {
    if (options.signal.aborted) throw abortReason(options.signal);
    const agreement = await greet(link, { ...options, signed: signer });
    const { windowLog, logLimit, session, site } = agreement;
    knowledge = site && (await options.memory?.meet(site, session, (bits) => pullSummary(link, bits)));
    const keepers = [...(options.keepers ?? []), ...(knowledge?.keepers ?? [])];
    const sender = new Sender(link, { ...options, windowLog, logLimit, keepers, site: options.site ?? knowledge });
    const receiver = returning(link, options, agreement);
    const directions: Directions = { role: "source", sender, receiver, told: options.told };
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {});
    const fail = (error: Error) => {
      failBoth(directions, error);
      failed.reject(error);
    };
    giveUp = fail;
    const answers = { expected: false, done: Promise.withResolvers<void>() };
    answers.done.promise.catch(() => {});
    const reading = link.duplex ? readAnswers(link, directions, answers) : Promise.resolve();
    const read = reading.catch((error) => {
      fail(error);
      answers.done.reject(error);
    });
    const release = async () => {
      options.signal.removeEventListener("abort", cancel);
      await link.close();
      await read;
      receiver?.fail(new LinkError("The session is over"));
      await receiver?.outcomes();
      await receiver?.dispose();
      await sender.close();
      await knowledge?.close();
    };
    return {
      agreement,
      sender,
      failed: failed.promise,
      tell: (payload) => link.control(FRAME.TELL, payload),
      get wire() {
        return link.wire;
      },
      async finish(streams) {
        answers.expected = true;
        await link.bulk(FRAME.DONE, [encodeControl(Done, { streams })]);
        if (link.duplex) {
          await answers.done.promise;
          // All is settled: that the destination can't be told any more changes nothing.
          await link.end().catch(() => {});
        } else {
          if (hashed) await link.bulk(FRAME.SIGNATURE, [await encodeSignature(signer!, hashed.digest())]);
          await link.end();
        }
        await read;
        await release();
      },
      async abort(error) {
        fail(error);
        await release();
      },
    };
  } catch (error) {
    options.signal.removeEventListener("abort", cancel);
    await link.abort(error as Error);
    await knowledge?.close();
    throw error;
  }
}

/** The source's receiver of what the destination opens, where both can do that. */
function returning(link: Link, options: SourceOptions, { returns }: Agreement): Receiver | undefined {
  if (!returns || !options.target) return undefined;
  return new Receiver(link, {
    windowLog: returns.window,
    logLimit: returns.log,
    spoolDir: options.spoolDir,
    target: options.target,
    allOrNothing: false,
    site: EMPTY_SITE,
    keepers: [],
    index: undefined,
    signed: false,
    firstStream: RETURN_STREAMS,
    connections: true,
  });
}

/** The destination's sender of what it opens itself, where both can do that. */
function replying(link: Link, options: DestinationOptions, { returns }: Agreement): Sender | undefined {
  if (!returns) return undefined;
  return new Sender(link, {
    windowLog: returns.window,
    logLimit: returns.log,
    spoolDir: options.spoolDir,
    codec: fixedCodec("zstd"),
    firstStream: RETURN_STREAMS,
  });
}

/** Has the destination summarise what it holds. */
async function pullSummary(link: Link, bits: 8 | 16): Promise<Uint8Array> {
  await link.control(FRAME.SUMMARIZE, encodeControl(Summarize, { bits }));
  let summary: Buffer | undefined;
  for (let due = 0; !summary || due < summary.length; ) {
    const frame = await link.next();
    if (!frame) throw ended(link);
    if (frame.type !== FRAME.SUMMARY) throw unexpected(frame);
    const { total, bytes } = decodeSummaryPiece(frame.payload, due);
    // In one piece: a peer may send it byte by byte.
    summary ??= Buffer.alloc(total);
    if (total !== summary.length) throw unexpected(frame);
    summary.set(bytes, due);
    due += bytes.length;
  }
  return summary;
}

/** The destination's end of a session, once the source has introduced itself. */
export interface DestinationSession extends Speaking {
  readonly agreement: Agreement;
  readonly receiver: Receiver;
  /** Sends streams of the destination's own; undefined where the source takes none. */
  readonly sender: Sender | undefined;
  /** Bytes of a bundle that were read. */
  readonly offset: number;
  /** Receives until the source is done. Rejects with what ended the session before; `receiver.outcomes()` tells what landed. */
  run(): Promise<ReceivedStream[]>;
}

/** Answers a session, or begins to read a recorded one. The session owns the connection from now on. */
export async function acceptSession(connection: Connection, options: DestinationOptions): Promise<DestinationSession> {
  const link = new Link(connection, options.times);
  let giveUp: (reason: Error) => unknown = (reason) => link.abort(reason);
  const cancel = () => void giveUp(abortReason(options.signal));
  options.signal.addEventListener("abort", cancel, { once: true });
  const release = () => options.signal.removeEventListener("abort", cancel);
  let site: DestinationSite | undefined;
  let proved = false;
  try {
    if (options.signal.aborted) throw abortReason(options.signal);
    const answered = await answer(link, options);
    ({ site } = answered);
    const { agreement } = answered;
    const { windowLog, logLimit, against, signed } = agreement;
    const keepers = await site.begin(agreement.session);
    const here = {
      site,
      keepers,
      index: against?.index,
      signed: signed !== undefined,
      connections: agreement.returns !== undefined,
    };
    const receiver = new Receiver(link, { ...options, windowLog, logLimit, ...here });
    const sender = replying(link, options, agreement);
    const directions: Directions = { role: "destination", sender, receiver, told: options.told };
    giveUp = (reason) => failBoth(directions, reason);
    return {
      agreement,
      receiver,
      sender,
      tell: (payload) => link.control(FRAME.TELL, payload),
      get wire() {
        return link.wire;
      },
      get offset() {
        return link.offset;
      },
      async run() {
        try {
          await receive(link, directions, receiver);
          if (signed) await checkSignature(link, signed);
          proved = true;
          // The link is still read: contents that were asked for arrive, a source that is cancelled is heard.
          const heard = link.duplex ? hear(link, directions) : Promise.resolve();
          heard.catch((error) => failBoth(directions, error));
          const outcomes = await receiver.finish();
          sender?.settle();
          if (link.duplex) await bow(link, outcomes.length, heard);
          return outcomes;
        } catch (error) {
          failBoth(directions, error as Error);
          throw error;
        } finally {
          release();
          await link.close();
          await receiver.outcomes();
          await receiver.dispose();
          sender?.fail(new LinkError("The session is over"));
          await sender?.close();
          if (signed && !proved) site?.disown();
          await site?.close();
        }
      },
    };
  } catch (error) {
    release();
    await link.abort(error as Error);
    await site?.close().catch(() => {});
    throw error;
  }
}

interface Answers {
  /** Everything was sent. */
  expected: boolean;
  readonly done: PromiseWithResolvers<void>;
}

/** The destination's frames, until it says that it is done. */
async function readAnswers(link: Link, directions: Directions, answers: Answers): Promise<void> {
  for (let frame = await link.next(); frame; frame = await link.next()) {
    if (await route(frame, link, directions)) continue;
    if (frame.type !== FRAME.DONE || !answers.expected) throw unexpected(frame);
    directions.sender?.settle();
    answers.done.resolve();
    const more = await link.next();
    if (more) throw unexpected(more);
    return;
  }
  throw ended(link);
}

/** The source's frames, until it says that it is done. */
async function receive(link: Link, directions: Directions, receiver: Receiver): Promise<void> {
  for (let frame = await link.next(); frame; frame = await link.next()) {
    if (await route(frame, link, directions)) continue;
    const { type, payload } = frame;
    if (type === FRAME.SUMMARIZE && link.duplex) await summarize(link, receiver, payload);
    else if (type === FRAME.DONE) {
      decodeControl(Done, payload);
      return;
    } else throw unexpected(frame);
  }
  throw link.duplex
    ? ended(link)
    : new IntegrityError(`${link.connection.peer} ends at byte ${link.offset}, before its last frame: it is cut short`);
}

/** Sends the summary that the source asks for: once, before its streams. */
async function summarize(link: Link, receiver: Receiver, payload: Buffer): Promise<void> {
  const { bits } = decodeControl(Summarize, payload);
  const summary = await receiver.summarize(bits as 8 | 16);
  for (let at = 0; at < summary.length; at += SUMMARY_PIECE) {
    const piece = summary.subarray(at, at + SUMMARY_PIECE);
    await link.control(FRAME.SUMMARY, encodeSummaryPiece(summary.length, at, piece));
  }
}

/** The source's frames after DONE, to the end. */
async function hear(link: Link, directions: Directions): Promise<void> {
  for (let frame = await link.next(); frame; frame = await link.next()) {
    if (!(await route(frame, link, directions))) throw unexpected(frame);
  }
}

/** Tells the source that all is settled. That it can't be told any more changes nothing here. */
async function bow(link: Link, streams: number, heard: Promise<void>): Promise<void> {
  try {
    await link.control(FRAME.DONE, encodeControl(Done, { streams }));
    await link.end();
    await heard;
  } catch {}
}
