import { abortReason, LinkError } from "../errors.ts";
import type { StreamTarget } from "../machines/machine.ts";
import { hashWrites } from "../transport/hash.ts";
import type { Connection } from "../transport/transport.ts";
import { Done, encodeControl } from "../wire/control.ts";
import { FRAME } from "../wire/numbers.ts";
import { type Directions, failBoth, route } from "./directions.ts";
import { type Agreement, type Greeting, greet } from "./handshake.ts";
import { Link } from "./link.ts";
import { Sender, type SenderOptions } from "./sender.ts";
import { endWith, type SessionOptions, type Speaking } from "./session.ts";
import { encodeSignature, type RecordingSigner } from "./signature.ts";
import type { SiteKnowledge, SiteMemory } from "./site.ts";
import { pullSummary } from "./summary-exchange.ts";
import { ended, unexpected } from "./told.ts";
import { returning } from "./way-back.ts";

export interface SourceOptions extends SessionOptions, Greeting, Omit<SenderOptions, "windowLog" | "logLimit"> {
  /** What is remembered of sites; asked where the destination says which one it is. */
  readonly memory?: SiteMemory | undefined;
  /** Where streams go that the destination opens, if `returns` allows any. */
  readonly target?: StreamTarget | undefined;
  /** Signs the session where it is a recording. */
  readonly signed?: RecordingSigner | undefined;
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
  const ending = endWith(options.signal, link);
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
    ending.by(fail);
    const answers = { expected: false, done: Promise.withResolvers<void>() };
    answers.done.promise.catch(() => {});
    const reading = link.duplex ? readAnswers(link, directions, answers) : Promise.resolve();
    const read = reading.catch((error) => {
      fail(error);
      answers.done.reject(error);
    });
    const release = async () => {
      ending.release();
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
    ending.release();
    await link.abort(error as Error);
    await knowledge?.close();
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
