/** The library's HTTP/3 half, at both ends. */
import { isIPv6 } from "node:net";
import { abortReason } from "../../core/errors.ts";
import { MAX_STRANGERS, Strangers } from "../strangers.ts";
import type { DatagramGate } from "./datagram-gate.ts";
import {
  type BidirectionalStream,
  type ClientParts,
  type ClientSession,
  internal,
  internalMethods,
  type LoadedLibrary,
  type Server,
  type Session,
} from "./library.ts";
import { closeSession, GOODBYE_MS, openStream, PATH, WINDOWS } from "./link.ts";

/** Of a listener's server. The request that opens a session is one of its streams. */
export const SERVER = {
  initialBidirectionalStreams: 2,
  // Else another process may listen at the same port, and get some of what is sent there.
  quicheNodeSocketOptions: { reuseAddr: false },
};

export interface Http3Dialling {
  readonly library: LoadedLibrary;
  /** SHA-256 of the certificate that the listener has to show. */
  readonly certificate: Buffer;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** A session over HTTP/3. */
export interface Http3Session {
  readonly session: ClientSession;
  readonly stream: BidirectionalStream;
  /** Ends the connection at once. */
  cut(): void;
}

/** Opens a session with one stream. Rejects where it can't, for whatever reason: HTTP/2 is for those. */
export async function dialHttp3(ip: string, port: number, dialling: Http3Dialling): Promise<Http3Session> {
  const { library, certificate, signal, timeoutMs } = dialling;
  let cut = () => {};
  class Client extends library.WebTransport {
    override startUpConnection(parts: ClientParts): void {
      super.startUpConnection(parts);
      cut = closeOnce(parts);
    }
  }
  const session = new Client(`https://${isIPv6(ip) ? `[${ip}]` : ip}:${port}${PATH}`, {
    ...WINDOWS,
    // It would look for the name "[::1]".
    host: ip,
    requireUnreliable: true,
    serverCertificateHashes: [{ algorithm: "sha-256", value: certificate }],
    quicConnectTimeout: timeoutMs,
    webTransportConnectTimeout: timeoutMs,
  });
  try {
    const stream = await openStream(session, { signal, timeoutMs });
    if (session.reliability !== "supports-unreliable") throw new Error("it goes over something else");
    if (signal.aborted) throw abortReason(signal);
    return { session, stream, cut };
  } catch (error) {
    cut();
    throw error;
  }
}

/** Of a client's HTTP/3 half. */
interface ClientHalf {
  closeClient(): void;
  readonly socket: { readonly socketInt?: unknown };
}

/** How often, and how many milliseconds apart, it is looked whether a client's socket is there that is to be closed. */
const LOOKS = 50;
const LOOK_MS = 20;

/** Has the library close a client once, and not before its socket is there: it throws where nobody catches it. */
function closeOnce({ client }: ClientParts): () => void {
  const half = internal(client, "transportInt") as ClientHalf;
  internalMethods(half, "closeClient");
  internal(half, "socket");
  const close = half.closeClient.bind(half);
  const closeSoon = (looks: number): void => {
    if (half.socket.socketInt !== undefined) close();
    else if (looks > 0) setTimeout(closeSoon, LOOK_MS, looks - 1);
  };
  let closed = false;
  half.closeClient = () => {
    if (closed) return;
    closed = true;
    closeSoon(LOOKS);
  };
  return () => half.closeClient();
}

/** A server that runs, and what stands before it. */
export interface Http3Running {
  readonly server: Pick<Server, "stopServer">;
  readonly gate: DatagramGate;
}

export interface Http3Serving {
  /** Starts a server that shows what is to be shown now, and whose sessions are greeted. */
  start(greet: (session: Session) => void): Promise<Http3Running>;
  /** Resolves with whether a session has opened its stream; one that has not was cut. */
  welcome(session: Session, cut: () => void): Promise<boolean>;
}

export interface Http3Server {
  /** @param anew whether those who come are to be shown something else than before */
  look(anew: boolean): void;
  /** Takes no more sessions; those that were welcomed go on. */
  close(): void;
}

/**
 * Serves sessions. The library ends a server's sessions with it, and can't have it show another certificate. So one that
 * closes, or is to show another, does so once no session is open; until then HTTP/2 is there for those who come. The same
 * is done about what peers leave behind there: only the end of the server frees that.
 */
export async function serveHttp3({ start, welcome }: Http3Serving): Promise<Http3Server> {
  const sessions = new Set<Session>();
  const strangers = new Strangers<Session>(end);
  let closed = false;
  let stale = false;
  let replacing = false;
  /** Sessions that were closed here, and whose peers don't agree. */
  let undead = 0;
  let running: Http3Running | undefined;

  function over(session: Session): void {
    if (!sessions.delete(session)) return;
    running?.gate.leave(session.peerAddress ?? "");
    settle();
  }

  /** A session whose peer doesn't agree to its end is over all the same. */
  function end(session: Session): void {
    if (!sessions.has(session)) return;
    closeSession(session);
    undead++;
    const agreed = () => void undead--;
    session.closed.then(agreed, agreed);
    setTimeout(over, GOODBYE_MS, session);
  }

  function greet(session: Session): void {
    if (closed) {
      closeSession(session);
      return;
    }
    sessions.add(session);
    session.closed.then(
      () => over(session),
      () => over(session),
    );
    strangers.add(session);
    void welcome(session, () => end(session)).then((welcomed) => {
      strangers.release(session);
      if (welcomed && sessions.has(session)) running?.gate.admit(session.peerAddress ?? "");
    });
  }

  function settle(): void {
    if (sessions.size > 0 || replacing) return;
    const anew = stale || undead > MAX_STRANGERS || running?.gate.full === true;
    if (closed || anew) stop();
    if (!closed && anew) void replace();
  }

  function stop(): void {
    running?.gate.shut();
    try {
      running?.server.stopServer();
    } catch {
      // Its socket was closed before.
    }
    running = undefined;
    undead = 0;
  }

  async function replace(): Promise<void> {
    replacing = true;
    stale = false;
    // Its port may be taken by now. It is tried again.
    running = await start(greet).catch(() => undefined);
    replacing = false;
    if (running) settle();
    else stale = true;
  }

  running = await start(greet);
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
