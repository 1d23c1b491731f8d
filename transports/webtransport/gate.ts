import type net from "node:net";
import { Strangers } from "../strangers.ts";
import { internal, internalMethods, missing, type Server } from "./library.ts";
import { type Http2Session, harden, PATH, widen } from "./link.ts";

/** What one socket may ask at once: more than the one session that it may have, for the answer "no" takes one as well. */
const MAX_REQUESTS = 4;

/** What is used of the node:http2 server in the library's. */
export interface Http2Server {
  on(event: "connection", listener: (socket: net.Socket) => void): void;
  on(event: "session", listener: (session: Http2Session) => void): void;
  on(
    event: "request",
    listener: (request: unknown, response: { readonly stream?: unknown; destroy(): void }) => void,
  ): void;
  on(event: "upgrade", listener: (request: unknown, socket: net.Socket) => void): void;
  on(event: "stream", listener: StreamListener): void;
  on(event: "tlsClientError" | "sessionError", listener: () => void): void;
  listeners(event: "stream"): StreamListener[];
  removeAllListeners(event: "stream" | "upgrade"): void;
}

type StreamListener = (stream: Http2Stream, headers: Record<string, unknown>, ...rest: unknown[]) => void;

interface Http2Stream {
  readonly session?: { destroy(): void } | undefined;
  close(): void;
  on(event: "error", listener: () => void): void;
}

interface Stranger {
  /** `HOST:PORT` */
  readonly name: string;
  readonly socket: net.Socket;
  /** Whether its session can't harm the process any more. */
  hardened: boolean;
}

export interface GateOptions {
  /** Milliseconds from a socket's arrival until it must have a session. */
  readonly handshakeMs: number;
  /** Told once a session shows that this is another version of the library; the session was cut, as all strangers were. */
  failed(error: Error): void;
}

export interface Gate {
  /**
   * Takes a session's connection for one that has introduced itself.
   * @param peer `HOST:PORT`
   * @returns its socket; undefined where it has a session already, or is gone
   */
  admit(peer: string): net.Socket | undefined;
}

/**
 * Stands before the library's server, which has no bounds: a socket gets `handshakeMs` and one session, and can ask for
 * nothing else. To be called before the server starts. Throws `bug` where that is another version of the library, which could
 * not be bounded.
 */
export function gateServer(server: Server, http2: Http2Server, { handshakeMs, failed }: GateOptions): Gate {
  internalMethods(http2, "on", "listeners", "removeAllListeners");
  internalMethods(server, "onHttpWTSessionVisitor");
  const [open] = http2.listeners("stream");
  if (open === undefined) throw missing("listener of streams");

  function fail(error: unknown): void {
    for (const stranger of strangers) strangers.drop(stranger);
    failed(error as Error);
  }
  const strangers = new Strangers<Stranger>(({ socket }) => socket.destroy());
  http2.on("connection", (socket) => {
    const stranger = { name: `${socket.remoteAddress}:${socket.remotePort}`, socket, hardened: false };
    const timer = setTimeout(() => strangers.drop(stranger), handshakeMs);
    socket.on("error", () => {});
    socket.once("close", () => {
      clearTimeout(timer);
      strangers.release(stranger);
    });
    strangers.add(stranger);
  });
  http2.on("tlsClientError", () => {});
  http2.on("sessionError", () => {});
  http2.on("session", (session) => {
    session.on("error", () => {});
    // The library's, each second: they throw where the session is destroyed and not closed yet, and tune what is not tuned.
    session.ping = () => false;
    widen(session, { maxConcurrentStreams: MAX_REQUESTS });
  });

  http2.removeAllListeners("stream");
  http2.on("stream", (stream, headers, ...rest) => {
    stream.on("error", () => {});
    try {
      if (headers[":protocol"] === "webtransport" && headers[":path"] === PATH) open(stream, headers, ...rest);
      else stream.close();
    } catch {
      stream.close();
    }
  });
  // HTTP/1.1, which the library would take for its WebSockets.
  http2.removeAllListeners("upgrade");
  http2.on("upgrade", (_, socket) => socket.destroy());

  const visit = server.onHttpWTSessionVisitor.bind(server);
  server.onHttpWTSessionVisitor = (event) => {
    try {
      const stream = internal(event.session, "stream") as Http2Stream;
      // Later it may be away.
      if (!("saveddata" in (internal(event.session, "capsParser") as object))) throw missing("saveddata");
      harden(event.session, () => stream.session?.destroy());
      for (const stranger of strangers) if (stranger.name === event.peerAddress) stranger.hardened = true;
    } catch (error) {
      fail(error);
    }
    // Also one that was cut: the library throws where it has not been shown a session of its own.
    visit(event);
  };

  return {
    admit(peer) {
      for (const stranger of strangers) {
        if (stranger.name !== peer || stranger.socket.destroyed) continue;
        if (!stranger.hardened) return void fail(missing("session that came by onHttpWTSessionVisitor"));
        strangers.release(stranger);
        return stranger.socket;
      }
      return undefined;
    },
  };
}
