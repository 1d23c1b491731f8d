import { randomBytes } from "node:crypto";
import { abortReason, IntegrityError, LinkError, ProtocolError, ShrinkerError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import {
  Done,
  decodeControl,
  decodeCredit,
  decodeNumber,
  encodeControl,
  Hello,
  Landed,
  Reset,
  Welcome,
} from "../wire/control.ts";
import type { Frame } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { Link, type LinkTimes } from "./link.ts";
import { type ReceivedStream, Receiver, type ReceiverOptions } from "./receiver.ts";
import { Sender, type SenderOptions } from "./sender.ts";

/** What the two ends have agreed on. */
export interface Agreement {
  readonly session: Uint8Array;
  readonly domain: string;
  readonly windowLog: number;
  readonly logLimit: number;
  /** The peer's program and version; of a bundle, the one that wrote it. */
  readonly software: string | undefined;
}

interface CommonOptions {
  readonly windowLog: number;
  readonly logLimit: number;
  /** This program and its version. */
  readonly software: string;
  readonly signal: AbortSignal;
  readonly times?: LinkTimes | undefined;
}

export interface SourceOptions extends CommonOptions, Omit<SenderOptions, "windowLog" | "logLimit"> {
  /** The tenant whose contents may meet. */
  readonly domain: string;
}

export interface DestinationOptions extends CommonOptions, Omit<ReceiverOptions, "windowLog" | "logLimit"> {
  /** As the source's; undefined takes any, for a session that is only looked at. */
  readonly domain: string | undefined;
  /** Called once a source has introduced itself; what it throws is why the session is refused. */
  readonly admit?: () => void;
}

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
  try {
    if (options.signal.aborted) throw abortReason(options.signal);
    const agreement = await greet(link, options);
    const sender = new Sender(link, { ...options, windowLog: agreement.windowLog, logLimit: agreement.logLimit });
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
    throw error;
  }
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
  try {
    if (options.signal.aborted) throw abortReason(options.signal);
    const agreement = await answer(link, options);
    const receiver = new Receiver(link, { ...options, windowLog: agreement.windowLog, logLimit: agreement.logLimit });
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
        }
      },
    };
  } catch (error) {
    release();
    await link.abort(error as Error);
    throw error;
  }
}

async function greet(link: Link, options: SourceOptions): Promise<Agreement> {
  const session = randomBytes(16);
  const { domain, windowLog, logLimit, software } = options;
  await link.open();
  await link.control(
    FRAME.HELLO,
    encodeControl(Hello, { session, domain, window: windowLog, log: logLimit, software }),
  );
  if (!link.duplex) return { session, domain, windowLog, logLimit, software: undefined };
  const frame = await introduction(link, FRAME.WELCOME);
  const welcome = decodeControl(Welcome, frame.payload);
  if (Buffer.compare(welcome.session, session) !== 0 || welcome.window > windowLog || welcome.log > logLimit) {
    throw new ProtocolError(`${link.connection.peer} answers another session than this one`);
  }
  link.watch();
  return { session, domain, windowLog: welcome.window, logLimit: welcome.log, software: welcome.software };
}

async function answer(link: Link, options: DestinationOptions): Promise<Agreement> {
  const frame = await introduction(link, FRAME.HELLO);
  const hello = decodeControl(Hello, frame.payload);
  if (options.domain !== undefined && hello.domain !== options.domain) {
    throw new ShrinkerError(
      "refused",
      `${link.connection.peer} belongs to the domain "${hello.domain}", this receiver to "${options.domain}": contents of different domains never meet`,
    );
  }
  options.admit?.();
  // What was recorded can't be negotiated.
  const windowLog = link.duplex ? Math.min(hello.window, options.windowLog) : hello.window;
  const logLimit = link.duplex ? Math.min(hello.log, options.logLimit) : hello.log;
  const { session, domain, software } = hello;
  if (link.duplex) {
    const welcome = { session, window: windowLog, log: logLimit, software: options.software };
    await link.control(FRAME.WELCOME, encodeControl(Welcome, welcome));
    link.watch();
  }
  return { session, domain, windowLog, logLimit, software };
}

/** The peer's preface and first frame. The destination says its own preface only now, so that a stranger learns nothing. */
async function introduction(link: Link, type: number): Promise<Frame> {
  const answers = type === FRAME.HELLO && link.duplex;
  try {
    const frame = await link.opened(async () => {
      if (answers) await link.open();
      return link.next();
    });
    if (frame === undefined) throw ended(link);
    if (frame.type !== type) throw unexpected(frame);
    return frame;
  } catch (error) {
    // Another release is no stranger: from the preface it learns which one this is.
    if (answers && error instanceof ShrinkerError && error.code === "refused") await link.open().catch(() => {});
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
    else if (type === FRAME.DONE) {
      decodeControl(Done, payload);
      return;
    } else throw unexpected(frame);
  }
  throw link.duplex
    ? ended(link)
    : new IntegrityError(`${link.connection.peer} ends at byte ${link.offset}, before its last frame: it is cut short`);
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

function ended(link: Link): LinkError {
  return new LinkError(
    `${link.connection.peer} closed the connection before the session was over: see what it said, and run again`,
  );
}

function unexpected(frame: Frame): ProtocolError {
  return new ProtocolError(`The peer sent a frame of type ${frame.type} where none is due`);
}
