import type net from "node:net";
import type { Server } from "./library.ts";
import { type Http2Session, harden, PATH, widen } from "./link.ts";

/** Strangers at a listener: they must not make us hold more. */
const MAX_STRANGERS = 64;
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
 * nothing else. To be called before the server starts.
 */
export function gateServer(server: Server, http2: Http2Server, handshakeMs: number): Gate {
  const strangers = new Map<string, net.Socket>();
  http2.on("connection", (socket) => {
    const name = `${socket.remoteAddress}:${socket.remotePort}`;
    strangers.set(name, socket);
    const timer = setTimeout(() => {
      if (strangers.get(name) === socket) socket.destroy();
    }, handshakeMs);
    socket.on("error", () => {});
    socket.once("close", () => {
      clearTimeout(timer);
      if (strangers.get(name) === socket) strangers.delete(name);
    });
    // The oldest: who means to shake hands takes moments, and is not kept out by those who never do.
    if (strangers.size > MAX_STRANGERS)
      for (const [oldest, dropped] of strangers) {
        strangers.delete(oldest);
        dropped.destroy();
        break;
      }
  });
  http2.on("tlsClientError", () => {});
  http2.on("sessionError", () => {});
  http2.on("session", (session) => {
    session.on("error", () => {});
    // The library's, each second: they throw where the session is destroyed and not closed yet, and tune what is not tuned.
    session.ping = () => false;
    widen(session, { maxConcurrentStreams: MAX_REQUESTS });
  });

  const [open] = http2.listeners("stream");
  http2.removeAllListeners("stream");
  http2.on("stream", (stream, headers, ...rest) => {
    stream.on("error", () => {});
    try {
      if (headers[":protocol"] === "webtransport" && headers[":path"] === PATH) open?.(stream, headers, ...rest);
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
    const { stream } = event.session as { stream?: Http2Stream };
    harden(event.session, () => stream?.session?.destroy());
    visit(event);
  };

  return {
    admit(peer) {
      const socket = strangers.get(peer);
      return strangers.delete(peer) && socket?.destroyed === false ? socket : undefined;
    },
  };
}
