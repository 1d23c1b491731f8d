import { within } from "../../core/within.ts";
import { StreamFailure, type StreamLink } from "../framed/link.ts";
import { guard } from "../guard.ts";
import { type BidirectionalStream, internal, internalMethods, type NativeSession, type Session } from "./library.ts";

/** How long the library may take to say goodbye before the connection is cut. */
export const GOODBYE_MS = 300;

/** The one path of a listener. */
export const PATH = "/shrinker/1";

/**
 * What a peer may send at once (of a session and of its stream alike), in bytes. Larger than what the framing grants, so that
 * only that holds a peer back: the library doesn't do it when nobody reads.
 */
const WINDOW = 16 << 20;

/** For the library's servers and clients alike. */
export const WINDOWS = {
  initialStreamFlowControlWindow: WINDOW,
  initialSessionFlowControlWindow: WINDOW,
  streamFlowControlWindowSizeLimit: WINDOW,
  sessionFlowControlWindowSizeLimit: WINDOW,
  initialBidirectionalStreams: 1,
  initialUnidirectionalStreams: 1,
};

/**
 * What the library may keep of a capsule whose rest has not come, in bytes; those of peers of ours are shorter. It would keep
 * 64 MiB, and copy them again at each packet.
 */
const MAX_KEPT = 4096;

/** What is used of node:http2's sessions, client's and server's. */
export interface Http2Session {
  settings(settings: { readonly initialWindowSize: number; readonly maxConcurrentStreams?: number }): void;
  setLocalWindowSize(bytes: number): void;
  on(event: "error", listener: (error: Error) => void): void;
  ping(...args: never[]): boolean;
}

/** Lets HTTP/2 carry what the framing grants: its own windows begin at 64 KiB, which is nothing over a long way. */
export function widen(session: Http2Session, settings: { readonly maxConcurrentStreams?: number } = {}): void {
  session.settings({ initialWindowSize: WINDOW, ...settings });
  session.setLocalWindowSize(WINDOW);
}

/**
 * Ends a session whose peer sends what makes the library throw, instead of the process: it throws where nobody catches it. Or
 * what it would keep without bounds. Throws `bug` where another version of the library does that elsewhere.
 * @param cut ends the connection
 */
export function harden(session: NativeSession, cut: () => void): void {
  const parser = internal(session, "capsParser") as NonNullable<NativeSession["capsParser"]>;
  internalMethods(parser, "parseData");
  const parse = parser.parseData.bind(parser);
  let over = false;
  parser.parseData = (data) => {
    // What is there already is still given out.
    if (over) return;
    try {
      parse(data);
      over = (parser.saveddata?.length ?? 0) > MAX_KEPT;
    } catch {
      over = true;
    }
    if (over) cut();
  };
}

const closing = new WeakSet<Session>();

/** Closes a session, once: the library's HTTP/3 half complains of a second time. */
export function closeSession(session: Session): void {
  if (closing.has(session)) return;
  closing.add(session);
  try {
    session.close();
  } catch {
    // It is closed already.
  }
}

export interface LinkParts {
  readonly session: Session;
  readonly stream: BidirectionalStream;
  readonly remote: StreamLink["remote"];
  readonly issuer?: string | undefined;
  /** Ends what carries the session at once. */
  cut(): void;
  /** Settles when that has ended: the library doesn't always notice. */
  readonly gone: Promise<unknown>;
}

/** One stream of a session, as what the framing stands on. */
export function sessionLink({ session, stream, remote, issuer, cut, gone }: LinkParts): StreamLink {
  const reader = stream.readable.getReader();
  const writer = stream.writable.getWriter();
  const broken = guard();
  const over = (cause: unknown) => broken.fail(new StreamFailure("ECONNRESET", cause));
  const closed = session.closed.then(over, over);
  gone.then(over, over);
  writer.closed.catch(over);
  reader.closed.catch(over);
  // Nobody reads these, and the library would keep all that comes.
  for (const extra of [
    session.incomingUnidirectionalStreams,
    session.datagrams.readable,
    ...(session.incomingBidirectionalStreams.locked ? [] : [session.incomingBidirectionalStreams]),
  ])
    void refuse(extra, cut);
  let goodbye: Promise<void> | undefined;
  async function close(): Promise<void> {
    closeSession(session);
    await within(closed, GOODBYE_MS);
    cut();
  }
  return {
    remote,
    issuer,
    async read() {
      const { value } = await broken.wait(reader.read()).catch((error) => {
        throw broken.failure ?? new StreamFailure("ECONNRESET", error);
      });
      if (value === undefined) throw broken.failure ?? new StreamFailure("ECONNRESET");
      return [value];
    },
    async write(buffers) {
      // A copy: the library says that it has written what it has only queued.
      await broken.wait(writer.write(Buffer.concat(buffers))).catch((error) => {
        throw broken.failure ?? new StreamFailure("ECONNRESET", error);
      });
    },
    close() {
      goodbye ??= close();
      return goodbye;
    },
  };
}

/** Cuts the connection when something comes that no peer of ours sends. */
async function refuse(incoming: ReadableStream<unknown>, cut: () => void): Promise<void> {
  const { done } = await incoming
    .getReader()
    .read()
    .catch(() => ({ done: true }));
  if (!done) cut();
}
