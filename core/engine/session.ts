import { abortReason, IntegrityError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import {
  Done,
  decodeControl,
  decodeCredit,
  decodeNumber,
  decodeSummaryPiece,
  encodeControl,
  encodeSummaryPiece,
  Landed,
  Reset,
  Summarize,
} from "../wire/control.ts";
import { FRAME, SUMMARY_PIECE } from "../wire/numbers.ts";
import { type Agreement, answer, type Greeting, greet, type Welcoming } from "./handshake.ts";
import { Link, type LinkTimes } from "./link.ts";
import { type ReceivedStream, Receiver, type ReceiverOptions } from "./receiver.ts";
import { Sender, type SenderOptions } from "./sender.ts";
import type { DestinationSite, SiteKnowledge, SiteMemory } from "./site.ts";
import { ended, unexpected } from "./told.ts";

interface CommonOptions {
  readonly signal: AbortSignal;
  readonly times?: LinkTimes | undefined;
}

export interface SourceOptions extends CommonOptions, Greeting, Omit<SenderOptions, "windowLog" | "logLimit"> {
  /** What is remembered of sites; asked where the destination says which one it is. */
  readonly memory?: SiteMemory | undefined;
}

type Negotiated = "windowLog" | "logLimit" | "site" | "keepers" | "index";

export interface DestinationOptions extends CommonOptions, Welcoming, Omit<ReceiverOptions, Negotiated> {}

/** The source's end of a session. */
export interface SourceSession {
  readonly agreement: Agreement;
  readonly sender: Sender;
  /** Says that no stream comes any more, waits for the destination's word that all have landed or failed, and ends the link. */
  finish(streams: number): Promise<void>;
  /** Tells the destination why, and drops the link. */
  abort(error: Error): Promise<void>;
}

/** Opens a session over a connection, as the source of its streams. The session owns the connection from now on. */
export async function openSession(connection: Connection, options: SourceOptions): Promise<SourceSession> {
  const link = new Link(connection, options.times);
  let giveUp: (reason: Error) => unknown = (reason) => link.abort(reason);
  const cancel = () => void giveUp(abortReason(options.signal));
  options.signal.addEventListener("abort", cancel, { once: true });
  let knowledge: SiteKnowledge | undefined;
  try {
    if (options.signal.aborted) throw abortReason(options.signal);
    const agreement = await greet(link, options);
    const { windowLog, logLimit, session, site } = agreement;
    knowledge = site && (await options.memory?.meet(site, session, (bits) => pullSummary(link, bits)));
    const keepers = [...(options.keepers ?? []), ...(knowledge?.keepers ?? [])];
    const sender = new Sender(link, { ...options, windowLog, logLimit, keepers, site: options.site ?? knowledge });
    giveUp = (reason) => sender.fail(reason);
    const answers = { expected: false, done: Promise.withResolvers<void>() };
    answers.done.promise.catch(() => {});
    const reading = link.duplex ? readAnswers(link, sender, answers) : Promise.resolve();
    const read = reading.catch((error) => {
      sender.fail(error);
      answers.done.reject(error);
    });
    const release = async () => {
      options.signal.removeEventListener("abort", cancel);
      await link.close();
      await read;
      await sender.close();
      await knowledge?.close();
    };
    return {
      agreement,
      sender,
      async finish(streams) {
        answers.expected = true;
        await link.bulk(FRAME.DONE, [encodeControl(Done, { streams })]);
        if (link.duplex) {
          await answers.done.promise;
          // All is settled: that the destination can't be told any more changes nothing.
          await link.end().catch(() => {});
        } else await link.end();
        await read;
        await release();
      },
      async abort(error) {
        sender.fail(error);
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

/** Has the destination summarise what it holds. */
async function pullSummary(link: Link, bits: 8 | 16): Promise<Uint8Array> {
  await link.control(FRAME.SUMMARIZE, encodeControl(Summarize, { bits }));
  const pieces: Buffer[] = [];
  for (let due = 0, total = 1; due < total; ) {
    const frame = await link.next();
    if (!frame) throw ended(link);
    if (frame.type !== FRAME.SUMMARY) throw unexpected(frame);
    const piece = decodeSummaryPiece(frame.payload, due);
    if (pieces.length > 0 && piece.total !== total) throw unexpected(frame);
    total = piece.total;
    due += piece.bytes.length;
    pieces.push(piece.bytes);
  }
  return Buffer.concat(pieces);
}

/** The destination's end of a session, once the source has introduced itself. */
export interface DestinationSession {
  readonly agreement: Agreement;
  readonly receiver: Receiver;
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
  try {
    if (options.signal.aborted) throw abortReason(options.signal);
    const answered = await answer(link, options);
    ({ site } = answered);
    const { agreement } = answered;
    const { windowLog, logLimit, against } = agreement;
    const keepers = await site.begin(agreement.session);
    const receiver = new Receiver(link, { ...options, windowLog, logLimit, site, keepers, index: against?.index });
    giveUp = (reason) => receiver.fail(reason);
    return {
      agreement,
      receiver,
      get offset() {
        return link.offset;
      },
      async run() {
        try {
          await receive(link, receiver);
          // The link is still read: contents that were asked for arrive, a source that is cancelled is heard.
          const heard = link.duplex ? hear(link, receiver) : Promise.resolve();
          heard.catch((error) => receiver.fail(error));
          const outcomes = await receiver.finish();
          if (link.duplex) await bow(link, outcomes.length, heard);
          return outcomes;
        } catch (error) {
          receiver.fail(error as Error);
          throw error;
        } finally {
          release();
          await link.close();
          await receiver.outcomes();
          await receiver.dispose();
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
async function readAnswers(link: Link, sender: Sender, answers: Answers): Promise<void> {
  for (let frame = await link.next(); frame; frame = await link.next()) {
    const { type, payload } = frame;
    if (type === FRAME.CREDIT) {
      const { stream, total } = decodeCredit(payload);
      sender.credit(stream, total);
    } else if (type === FRAME.WANT) sender.want(decodeNumber(payload));
    else if (type === FRAME.RESOLVED) sender.resolved(decodeNumber(payload));
    else if (type === FRAME.LANDED) sender.landed(decodeControl(Landed, payload).stream);
    else if (type === FRAME.RESET) {
      const { stream, code, message } = decodeControl(Reset, payload);
      sender.reset(stream, code, message);
    } else if (type === FRAME.DONE && answers.expected) {
      sender.settle();
      answers.done.resolve();
      return untilEnd(link);
    } else throw unexpected(frame);
  }
  throw ended(link);
}

/** The source's frames, until it says that it is done. */
async function receive(link: Link, receiver: Receiver): Promise<void> {
  for (let frame = await link.next(); frame; frame = await link.next()) {
    const { type, payload, sequence } = frame;
    if (type === FRAME.BATCH) {
      link.acknowledge(sequence);
      await receiver.batch(payload);
    } else if (type === FRAME.OPEN) receiver.open(payload);
    else if (type === FRAME.CLOSE) receiver.close(payload);
    else if (type === FRAME.RESET) receiver.reset(payload);
    else if (type === FRAME.CONTENT) receiver.content(payload);
    else if (type === FRAME.SUMMARIZE && link.duplex) await summarize(link, receiver, payload);
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
async function hear(link: Link, receiver: Receiver): Promise<void> {
  for (let frame = await link.next(); frame; frame = await link.next()) {
    if (frame.type !== FRAME.CONTENT) throw unexpected(frame);
    receiver.content(frame.payload);
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

async function untilEnd(link: Link): Promise<void> {
  const frame = await link.next();
  if (frame) throw unexpected(frame);
}
