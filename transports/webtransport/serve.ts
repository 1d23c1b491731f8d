import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { abortReason } from "../../core/errors.ts";
import { type Credentials, type ListenSecurity, renewed } from "../../core/transport/security.ts";
import type { Listener } from "../../core/transport/transport.ts";
import { acceptQueue } from "../accept.ts";
import { socketError } from "../advice.ts";
import { framedConnection } from "../framed/connection.ts";
import { formatHostPort } from "../host.ts";
import { type DatagramGate, gateDatagrams } from "./datagram-gate.ts";
import { gateServer, type Http2Server } from "./gate.ts";
import { internal, internalMethods, type LoadedLibrary, type Server, type Session, stopServer } from "./library.ts";
import { PATH, sessionLink, WINDOWS } from "./link.ts";
import { type Http3Half, SERVER_OPTIONS, serveHttp3 } from "./serve-http3.ts";

/** What a stranger has to make the handshakes of TLS and HTTP, and to open its stream. */
const HANDSHAKE_MS = 10_000;
/** How often a listener looks whether its certificate is to be renewed. */
const RENEWAL_MS = 60_000;

export interface ServingTimes {
  readonly handshake: number;
  readonly renewal: number;
}

export const SERVING_TIMES: ServingTimes = { handshake: HANDSHAKE_MS, renewal: RENEWAL_MS };

export interface Serving {
  readonly library: LoadedLibrary;
  /** The address as the user wrote it, for messages. */
  readonly text: string;
  readonly signal: AbortSignal;
  readonly security: ListenSecurity;
  readonly readAhead: number | undefined;
  readonly times?: ServingTimes;
}

/** Listens over HTTP/2 and, where the library can, over HTTP/3 at the same port. */
export async function serveSessions(ip: string, port: number, serving: Serving): Promise<Listener> {
  const { library, text, signal, security, readAhead } = serving;
  const { times = SERVING_TIMES } = serving;
  if (signal.aborted) throw abortReason(signal);
  const peers = acceptQueue();
  const current = await renewed(security, (made) => made);
  let credentials = await current();
  let http2: Server | undefined;
  let http3: Http3Half | undefined;
  const failed = Promise.withResolvers<Error>();

  /**
   * Gives a session to whoever accepts, once it has opened its stream; resolves with whether it has.
   * @param cut ends what carries the session at once
   * @param gone settles when that has ended
   */
  async function welcome(session: Session, carrier: string, cut: () => void, gone: Promise<unknown>): Promise<boolean> {
    const timer = setTimeout(cut, times.handshake);
    try {
      await session.ready;
      const incoming = session.incomingBidirectionalStreams.getReader();
      const { value: stream } = await incoming.read();
      if (stream === undefined) throw new Error("it ends");
      // A second one is refused.
      incoming.releaseLock();
      const remote = remoteOf(session);
      const link = sessionLink({ session, stream, remote, cut, gone });
      const peer = formatHostPort("webtransport", remote.ip, remote.port);
      peers.offer({ ...framedConnection(link, peer, { readAhead }), carrier });
      return true;
    } catch {
      cut();
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  async function start(
    Kind: LoadedLibrary["Http2Server"],
    at: number,
    prepare: (server: Server) => (session: Session) => void,
    special: Partial<typeof SERVER_OPTIONS> = {},
  ): Promise<Server> {
    const server = new Kind({
      ...WINDOWS,
      ...special,
      host: ip,
      port: at,
      secret: randomBytes(32).toString("hex"),
      ...shown(credentials),
    });
    internalMethods(server, "createTransportInt");
    // By hand: where it fails, `startServer` keeps that to itself.
    await server.createTransportInt();
    const greet = prepare(server);
    const sessions = server.sessionStream(PATH).getReader();
    server.startServer();
    await server.ready.catch((error) => {
      stopServer(server);
      throw error;
    });
    void (async () => {
      for (;;) {
        const { value } = await sessions.read();
        if (value === undefined) return;
        value.closed.catch(() => {});
        greet(value);
      }
    })().catch(() => {});
    return server;
  }

  let bound = port;
  try {
    http2 = await start(library.Http2Server, port, (server) => {
      const half = internal(server.transportInt, "serverInt") as Http2Server;
      const gate = gateServer(server, half, { handshakeMs: times.handshake, failed: failed.resolve });
      return (session) => {
        const socket = gate.admit(session.peerAddress ?? "");
        if (socket)
          void welcome(
            session,
            "HTTP/2",
            () => socket.destroy(),
            once(socket, "close").catch(() => {}),
          );
        else session.close();
      };
    });
    bound = http2.address()?.port ?? port;
    if (library.http3)
      http3 = await serveHttp3({
        async start(greet) {
          let gate!: DatagramGate;
          const prepare = (server: Server) => {
            gate = gateDatagrams(server, times.handshake);
            return greet;
          };
          const server = await start(library.Http3Server, bound, prepare, SERVER_OPTIONS);
          return { server, gate };
        },
        welcome: (session, cut) => welcome(session, "HTTP/3", cut, session.closed),
      });
  } catch (error) {
    http2?.stopServer();
    throw socketError("Cannot listen at", text, error);
  }

  const renewal = setInterval(async () => {
    // Where new ones can't be had, the old ones are shown for as long as they last.
    const fresh = await current().catch(() => credentials);
    const anew = fresh !== credentials;
    credentials = fresh;
    if (!open) return;
    if (anew) http2?.updateCert(fresh.certificates, fresh.privateKey);
    http3?.look(anew);
  }, times.renewal);
  renewal.unref();
  let open = true;
  const close = (error?: Error) => {
    if (!open) return;
    open = false;
    signal.removeEventListener("abort", onAbort);
    clearInterval(renewal);
    peers.close(error);
    http2?.stopServer();
    http3?.close();
  };
  void failed.promise.then(close);
  const onAbort = () => close(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  const carrier = library.http3 ? "HTTP/3 and HTTP/2" : "HTTP/2";
  return {
    address: formatHostPort("webtransport", ip, bound),
    carrier,
    accept: peers.accept,
    close: async () => close(),
  };
}

function shown({ certificates, privateKey }: Credentials) {
  return { cert: certificates, privKey: privateKey };
}

function remoteOf({ peerAddress = "" }: Session): { ip: string; port: number } {
  const at = peerAddress.lastIndexOf(":");
  return { ip: peerAddress.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(peerAddress.slice(at + 1)) };
}
