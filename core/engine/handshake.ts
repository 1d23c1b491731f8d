import { randomBytes } from "node:crypto";
import { ProtocolError, ShrinkerError } from "../errors.ts";
import {
  type Against,
  decodeControl,
  encodeControl,
  Hello,
  type Signed,
  type SiteInfo,
  Welcome,
} from "../wire/control.ts";
import type { Frame } from "../wire/frame.ts";
import { FRAME, MAX_CONTROL, SECRET_BYTES } from "../wire/numbers.ts";
import type { Link, LinkListener } from "./link.ts";
import type { Redial } from "./reconnect.ts";
import { type Registration, type ResumableSessions, ResumedSession } from "./resumable.ts";
import type { DestinationSite } from "./site.ts";
import { ended, unexpected } from "./told.ts";

/** What the two ends have agreed on. */
export interface Agreement {
  readonly session: Uint8Array;
  readonly domain: string;
  readonly windowLog: number;
  readonly logLimit: number;
  /** The peer's program and version; of a bundle, the one that wrote it. */
  readonly software: string | undefined;
  /** Of a destination, what it holds from elsewhere, where it says so. */
  readonly site: SiteInfo | undefined;
  /** Of a recording, what it leaves out. */
  readonly against: Against | undefined;
  /** Of a recording, who says to have signed it; proved only at its end. */
  readonly signed: Signed | undefined;
  /** Of the streams that the destination opens, where it may open any. */
  readonly returns: Returns | undefined;
}

/** Window, as a binary logarithm, and log of the direction from the destination to the source. */
export interface Returns {
  readonly window: number;
  readonly log: number;
}

interface Introduction {
  /** Binary logarithm of the largest window for contents. */
  readonly windowLog: number;
  /** How many of the last contents may be referred to. */
  readonly logLimit: number;
  /** This program and its version. */
  readonly software: string;
  /** Whether streams go back as well, and with what at most. */
  readonly returns?: Returns | undefined;
  /** Told when the connection of a session that can be resumed is lost, and when there is one again. */
  readonly onLink?: LinkListener | undefined;
}

export interface Greeting extends Introduction {
  /** The tenant whose contents may meet. */
  readonly domain: string;
  /** Of a recording that leaves out what a site holds. */
  readonly against?: Against | undefined;
  /** Of a recording that is signed: who signs it, and to whom it is encrypted. */
  readonly signed?: Signed | undefined;
  /** Dials the destination again when the connection is lost. */
  readonly redial?: Redial | undefined;
}

export interface Welcoming extends Introduction {
  /** As the source's; undefined takes any, for a session that is only looked at. */
  readonly domain: string | undefined;
  /** Called once a source has introduced itself; what it throws is why the session is refused. */
  readonly admit?: () => void;
  /** Called with who says to have signed a recording, before anything is taken in; what it throws is why it is refused. */
  readonly checkSigner?: ((signed: Signed | undefined) => void) | undefined;
  /**
   * Opens what is here from before; the session closes it.
   * @param against what a recording leaves out; rejects where that isn't here
   */
  readonly openSite: (against: Against | undefined) => Promise<DestinationSite>;
  /**
   * Where sessions wait for their source when their connection is lost. A connection that goes on with one of them is given
   * to it; accepting it then ends with a `ResumedSession`.
   */
  readonly resumables?: ResumableSessions | undefined;
}

/** Introduces a source, and hears what the destination agrees to. */
export async function greet(link: Link, options: Greeting): Promise<Agreement> {
  const session = randomBytes(16);
  const { domain, windowLog, logLimit, software, against, returns, redial, onLink } = options;
  const signed = options.signed && { key: options.signed.key, recipients: options.signed.recipients };
  const secret = redial && link.duplex ? randomBytes(SECRET_BYTES) : undefined;
  const introduced = {
    ...{ session, domain, window: windowLog, log: logLimit, software },
    ...(returns && { returns }),
    ...(against && { against }),
    ...(signed && { signed }),
    ...(secret && { resume: secret }),
  };
  const hello = encodeControl(Hello, introduced);
  if (hello.length > MAX_CONTROL) {
    const message = `The index lists ${against?.seeds.length} seeds, whose names are too long for a bundle: index fewer files`;
    throw new ShrinkerError("usage", message);
  }
  await link.open();
  await link.control(FRAME.HELLO, hello);
  const agreed = { session, domain, against, signed };
  if (!link.duplex) {
    return { ...agreed, windowLog, logLimit, software: undefined, site: undefined, returns: undefined };
  }
  const frame = await introduction(link, FRAME.WELCOME);
  const welcome = decodeControl(Welcome, frame.payload);
  if (
    Buffer.compare(welcome.session, session) !== 0 ||
    welcome.window > windowLog ||
    welcome.log > logLimit ||
    !narrows(welcome.returns, returns)
  ) {
    throw new ProtocolError(`${link.connection.peer} answers another session than this one`);
  }
  if (secret && welcome.resume) link.outlive({ ticket: { session, secret }, redial, onLink });
  link.watch();
  const { window, log, site } = welcome;
  return {
    ...agreed,
    windowLog: window,
    logLimit: log,
    software: welcome.software,
    site,
    returns: welcome.returns,
  };
}

/** What both can do; undefined where one of them can't. */
function narrow(one: Returns | undefined, other: Returns | undefined): Returns | undefined {
  if (!one || !other) return undefined;
  return { window: Math.min(one.window, other.window), log: Math.min(one.log, other.log) };
}

/** Whether an answer is within what was offered. */
function narrows(answer: Returns | undefined, offer: Returns | undefined): boolean {
  return !answer || (offer !== undefined && answer.window <= offer.window && answer.log <= offer.log);
}

/**
 * Hears a source's introduction, and answers it. Throws `refused` for another domain, and a `ResumedSession` where the
 * source goes on with a session of before.
 */
export async function answer(link: Link, options: Welcoming): Promise<{ agreement: Agreement; site: DestinationSite }> {
  const { resumables, onLink } = options;
  const frame = await introduction(link, FRAME.HELLO, resumables && FRAME.RESUME);
  if (frame.type === FRAME.RESUME) {
    resumables!.resume(frame.payload, () => link.release());
    throw new ResumedSession();
  }
  const hello = decodeControl(Hello, frame.payload);
  if (options.domain !== undefined && hello.domain !== options.domain) {
    throw new ShrinkerError(
      "refused",
      `${link.connection.peer} belongs to the domain "${hello.domain}", this receiver to "${options.domain}": contents of different domains never meet`,
    );
  }
  const signed = link.duplex ? undefined : hello.signed;
  if (!link.duplex) options.checkSigner?.(signed);
  if (!signed) link.dropDigest();
  options.admit?.();
  const site = await options.openSite(hello.against);
  // What was recorded can't be negotiated.
  const windowLog = link.duplex ? Math.min(hello.window, options.windowLog) : hello.window;
  const logLimit = link.duplex ? Math.min(hello.log, options.logLimit) : hello.log;
  const { session, domain, software, against } = hello;
  const returns = link.duplex ? narrow(hello.returns, options.returns) : undefined;
  const ticket = hello.resume && link.duplex ? { session, secret: hello.resume } : undefined;
  let registration: Registration | undefined;
  try {
    if (link.duplex) {
      registration = ticket && resumables?.register(ticket);
      const welcome = { session, window: windowLog, log: logLimit, software: options.software };
      const said = {
        ...welcome,
        ...(returns && { returns }),
        ...(site.info && { site: site.info }),
        ...(registration && { resume: true }),
      };
      await link.control(FRAME.WELCOME, encodeControl(Welcome, said));
      if (ticket && registration) {
        link.outlive({ ticket, onLink, over: registration.remove });
        registration.activate(link);
      }
      link.watch();
    }
  } catch (error) {
    registration?.remove();
    await site.close();
    throw error;
  }
  const agreed = { session, domain, windowLog, logLimit, software, against, signed, returns };
  return { agreement: { ...agreed, site: undefined }, site };
}

/** The peer's preface and first frame. The destination says its own preface only now, so that a stranger learns nothing. */
async function introduction(link: Link, type: number, or?: number): Promise<Frame> {
  const answers = type === FRAME.HELLO && link.duplex;
  try {
    const frame = await link.opened(async () => {
      if (answers) await link.open();
      return link.next();
    });
    if (frame === undefined) throw ended(link);
    if (frame.type !== type && frame.type !== or) throw unexpected(frame);
    return frame;
  } catch (error) {
    // Another release is no stranger: from the preface it learns which one this is.
    if (answers && error instanceof ShrinkerError && error.code === "refused") await link.open().catch(() => {});
    throw error;
  }
}
