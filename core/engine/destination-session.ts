import { abortReason, LinkError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import { Done, decodeControl, encodeControl } from "../wire/control.ts";
import { FRAME } from "../wire/numbers.ts";
import { type Directions, failBoth, route } from "./directions.ts";
import { type Agreement, answer, type Welcoming } from "./handshake.ts";
import { Link } from "./link.ts";
import type { ReceivedStream } from "./received-streams.ts";
import { Receiver, type ReceiverOptions } from "./receiver.ts";
import type { Sender } from "./sender.ts";
import { endWith, type SessionOptions, type Speaking } from "./session.ts";
import { checkSignature } from "./signature.ts";
import type { DestinationSite } from "./site.ts";
import { sendSummary } from "./summary-exchange.ts";
import { ended, unexpected } from "./told.ts";
import { replying } from "./way-back.ts";

type Negotiated = "windowLog" | "logLimit" | "site" | "keepers" | "index" | "signed" | "connections";

export interface DestinationOptions extends SessionOptions, Welcoming, Omit<ReceiverOptions, Negotiated> {}

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
  const ending = endWith(options.signal, link);
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
    ending.by((reason) => failBoth(directions, reason));
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
          ending.release();
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
    ending.release();
    await link.abort(error as Error);
    await site?.close().catch(() => {});
    throw error;
  }
}

/** The source's frames, until it says that it is done. */
async function receive(link: Link, directions: Directions, receiver: Receiver): Promise<void> {
  for (let frame = await link.next(); frame; frame = await link.next()) {
    if (await route(frame, link, directions)) continue;
    const { type, payload } = frame;
    if (type === FRAME.SUMMARIZE && link.duplex) await sendSummary(link, receiver, payload);
    else if (type === FRAME.DONE) {
      decodeControl(Done, payload);
      return;
    } else throw unexpected(frame);
  }
  throw ended(link);
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
