import { randomBytes } from "node:crypto";
import { ProtocolError, ShrinkerError } from "../errors.ts";
import { type Against, decodeControl, encodeControl, Hello, type SiteInfo, Welcome } from "../wire/control.ts";
import type { Frame } from "../wire/frame.ts";
import { FRAME, MAX_CONTROL } from "../wire/numbers.ts";
import type { Link } from "./link.ts";
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
}

interface Introduction {
  /** Binary logarithm of the largest window for contents. */
  readonly windowLog: number;
  /** How many of the last contents may be referred to. */
  readonly logLimit: number;
  /** This program and its version. */
  readonly software: string;
}

export interface Greeting extends Introduction {
  /** The tenant whose contents may meet. */
  readonly domain: string;
  /** Of a recording that leaves out what a site holds. */
  readonly against?: Against | undefined;
}

export interface Welcoming extends Introduction {
  /** As the source's; undefined takes any, for a session that is only looked at. */
  readonly domain: string | undefined;
  /** Called once a source has introduced itself; what it throws is why the session is refused. */
  readonly admit?: () => void;
  /**
   * Opens what is here from before; the session closes it.
   * @param against what a recording leaves out; rejects where that isn't here
   */
  readonly openSite: (against: Against | undefined) => Promise<DestinationSite>;
}

/** Introduces a source, and hears what the destination agrees to. */
export async function greet(link: Link, options: Greeting): Promise<Agreement> {
  const session = randomBytes(16);
  const { domain, windowLog, logLimit, software, against } = options;
  const introduced = { session, domain, window: windowLog, log: logLimit, software, ...(against && { against }) };
  const hello = encodeControl(Hello, introduced);
  if (hello.length > MAX_CONTROL) {
    const message = `The index lists ${against?.seeds.length} seeds, whose names are too long for a bundle: index fewer files`;
    throw new ShrinkerError("usage", message);
  }
  await link.open();
  await link.control(FRAME.HELLO, hello);
  if (!link.duplex) return { session, domain, windowLog, logLimit, software: undefined, site: undefined, against };
  const frame = await introduction(link, FRAME.WELCOME);
  const welcome = decodeControl(Welcome, frame.payload);
  if (Buffer.compare(welcome.session, session) !== 0 || welcome.window > windowLog || welcome.log > logLimit) {
    throw new ProtocolError(`${link.connection.peer} answers another session than this one`);
  }
  link.watch();
  const { window, log, site } = welcome;
  return { session, domain, windowLog: window, logLimit: log, software: welcome.software, site, against };
}

/** Hears a source's introduction, and answers it. Throws `refused` for another domain. */
export async function answer(link: Link, options: Welcoming): Promise<{ agreement: Agreement; site: DestinationSite }> {
  const frame = await introduction(link, FRAME.HELLO);
  const hello = decodeControl(Hello, frame.payload);
  if (options.domain !== undefined && hello.domain !== options.domain) {
    throw new ShrinkerError(
      "refused",
      `${link.connection.peer} belongs to the domain "${hello.domain}", this receiver to "${options.domain}": contents of different domains never meet`,
    );
  }
  options.admit?.();
  const site = await options.openSite(hello.against);
  // What was recorded can't be negotiated.
  const windowLog = link.duplex ? Math.min(hello.window, options.windowLog) : hello.window;
  const logLimit = link.duplex ? Math.min(hello.log, options.logLimit) : hello.log;
  const { session, domain, software, against } = hello;
  try {
    if (link.duplex) {
      const welcome = { session, window: windowLog, log: logLimit, software: options.software };
      const said = site.info ? { ...welcome, site: site.info } : welcome;
      await link.control(FRAME.WELCOME, encodeControl(Welcome, said));
      link.watch();
    }
  } catch (error) {
    await site.close();
    throw error;
  }
  return { agreement: { session, domain, windowLog, logLimit, software, site: undefined, against }, site };
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
