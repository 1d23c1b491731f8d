/** The library's HTTP/3 half, at both ends. */
import { isIPv6 } from "node:net";
import { Strangers } from "../strangers.ts";
import type { BidirectionalStream, ClientSession, LoadedLibrary, Server, Session } from "./library.ts";
import { closeSession, openStream, PATH, WINDOWS } from "./link.ts";

/** Of a listener's server. Over HTTP/3 the request that opens a session counts as one of its streams. */
export const SERVER_STREAMS = { initialBidirectionalStreams: 2 };

export interface Http3Dialling {
  readonly library: LoadedLibrary;
  /** SHA-256 of the certificate that the listener has to show. */
  readonly certificate: Buffer;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** Opens a session with one stream. Rejects where it can't, for whatever reason: HTTP/2 is for those. */
export async function dialHttp3(
  ip: string,
  port: number,
  { library, certificate, signal, timeoutMs }: Http3Dialling,
): Promise<{ session: ClientSession; stream: BidirectionalStream }> {
  const session = new library.WebTransport(`https://${isIPv6(ip) ? `[${ip}]` : ip}:${port}${PATH}`, {
    ...WINDOWS,
    requireUnreliable: true,
    serverCertificateHashes: [{ algorithm: "sha-256", value: certificate }],
    quicConnectTimeout: timeoutMs,
    webTransportConnectTimeout: timeoutMs,
  });
  try {
    const stream = await openStream(session, { signal, timeoutMs });
    if (session.reliability !== "supports-unreliable") throw new Error("it goes over something else");
    return { session, stream };
  } catch (error) {
    closeSession(session);
    throw error;
  }
}

export interface Http3Serving {
  /** Starts a server that shows what is to be shown now, and whose sessions are greeted. */
  start(greet: (session: Session) => void): Promise<Server>;
  /** Settles when a session has opened its stream, or was closed. */
  welcome(session: Session): Promise<void>;
}

export interface Http3Server {
  /** @param anew whether those who come are to be shown something else than before */
  look(anew: boolean): void;
  /** Takes no more sessions; those that were welcomed go on. */
  close(): void;
}

/**
 * Serves sessions. The library ends a server's sessions with it, and can't have it show another certificate. So one that
 * closes, or is to show another, does so once no session is open; until then HTTP/2 is there for those who come.
 */
export async function serveHttp3({ start, welcome }: Http3Serving): Promise<Http3Server> {
  const sessions = new Set<Session>();
  const strangers = new Strangers<Session>(closeSession);
  let closed = false;
  let stale = false;
  let replacing = false;
  let server: Server | undefined;

  function greet(session: Session): void {
    if (closed) {
      closeSession(session);
      return;
    }
    sessions.add(session);
    const over = () => {
      sessions.delete(session);
      settle();
    };
    session.closed.then(over, over);
    strangers.add(session);
    void welcome(session).finally(() => strangers.release(session));
  }

  function settle(): void {
    if (sessions.size > 0 || replacing) return;
    if (closed || stale) {
      server?.stopServer();
      server = undefined;
    }
    if (!closed && stale) void replace();
  }

  async function replace(): Promise<void> {
    replacing = true;
    stale = false;
    // Its port may be taken by now. It is tried again.
    server = await start(greet).catch(() => undefined);
    stale ||= server === undefined;
    replacing = false;
    if (closed) settle();
  }

  server = await start(greet);
  return {
    look(anew) {
      stale ||= anew;
      settle();
    },
    close() {
      closed = true;
      for (const stranger of strangers) strangers.drop(stranger);
      settle();
    },
  };
}
