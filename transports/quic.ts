import { abortReason, LinkError, ShrinkerError } from "../core/errors.ts";
import { loadQuic, runtime } from "../core/runtime.ts";
import { type DialSecurity, type ListenSecurity, renewed, UntrustedPeerError } from "../core/transport/security.ts";
import type { Connection, Listener, Transport } from "../core/transport/transport.ts";
import { acceptQueue } from "./accept.ts";
import { socketError } from "./advice.ts";
import { framedConnection } from "./framed/connection.ts";
import { StreamFailure } from "./framed/link.ts";
import { formatHostPort, lookupHost, placeToDial, placeToListen, reachAny } from "./host.ts";
import { dialAnybody, listenAsNobody } from "./nobody.ts";
import { denoQuic } from "./quic/deno.ts";
import { nodeQuic } from "./quic/node.ts";
import { ALPN, type ArrivingPeer, type QuicRuntime, type QuicServer } from "./quic/runtime.ts";
import { unreachable } from "./quic/unreachable.ts";
import { CONNECT_MS } from "./socket.ts";
import { Strangers } from "./strangers.ts";

/** A connection that has been silent for this long is dead. While it lives, the runtimes ask for signs of life. */
const IDLE_MS = 15_000;
/** What a stranger has to make the handshake and to open its stream. */
const HANDSHAKE_MS = 10_000;
/** How often a listener looks whether its certificate is to be renewed. */
const RENEWAL_MS = 60_000;

export interface QuicTimes {
  /** Milliseconds that a host gets to answer, over all of its addresses. */
  readonly connect: number;
  readonly idle: number;
  readonly handshake: number;
  readonly renewal: number;
}

/** Of the transport that everybody uses. */
export const TIMES: QuicTimes = { connect: CONNECT_MS, idle: IDLE_MS, handshake: HANDSHAKE_MS, renewal: RENEWAL_MS };

/** `quic://HOST:PORT`: a connection of QUIC (RFC 9000) with one stream, by what the runtime has. */
export function quicTransport(times: QuicTimes = TIMES): Transport {
  return {
    scheme: "quic",
    resumable: true,
    authenticates: true,
    async dial(address, options) {
      const { signal, security } = options;
      const { host, port } = placeToDial(address, options);
      const quic = await implementation(address.text);
      const hosts = await lookupHost(address, host, signal);
      const dialling = {
        quic,
        port,
        peer: address.text,
        security: security ?? (await dialAnybody()),
        idleMs: times.idle,
      };
      return reachAny(hosts, signal, (ip, timeoutMs) => connect(ip, { ...dialling, signal, timeoutMs }), times.connect);
    },
    async listen(address, options) {
      const { signal, security, readAhead } = options;
      const { host, port } = placeToListen(address, options);
      const quic = await implementation(address.text);
      const [ip] = await lookupHost(address, host, signal);
      return serve(ip!, port, { quic, text: address.text, signal, security, readAhead, times });
    },
  };
}

export const quic: Transport = quicTransport();

let loading: Promise<QuicRuntime | undefined> | undefined;

/** Throws `usage` on a runtime that has no QUIC. */
async function implementation(text: string): Promise<QuicRuntime> {
  loading ??= loadQuic().then((api) => api && ("node" in api ? nodeQuic(api.node) : denoQuic(api.deno)));
  const quic = await loading;
  if (quic) return quic;
  const advice = "use tcp://HOST:PORT, at both ends; or run it by Bun, or by Deno with --unstable-net";
  throw new ShrinkerError("usage", `Cannot use ${text}: ${runtime} has no QUIC; ${advice}`);
}

interface Dialling {
  readonly quic: QuicRuntime;
  readonly port: number;
  readonly peer: string;
  readonly security: DialSecurity;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  readonly idleMs: number;
}

async function connect(ip: string, dialling: Dialling): Promise<Connection> {
  const { quic, port, peer, security, signal, timeoutMs, idleMs } = dialling;
  if (signal.aborted) throw abortReason(signal);
  const attempt = new AbortController();
  const late = new AbortController();
  const onAbort = () => attempt.abort();
  signal.addEventListener("abort", onAbort);
  let failure: StreamFailure | undefined;
  const giveUp = (code: "ETIMEDOUT" | "ECONNREFUSED") => {
    failure ??= new StreamFailure(code);
    attempt.abort();
  };
  const timer = setTimeout(() => giveUp("ETIMEDOUT"), timeoutMs);
  void unreachable(ip, port, late.signal).then(() => giveUp("ECONNREFUSED"));
  try {
    const link = await quic.dial(ip, port, { security, signal: attempt.signal, idleMs });
    if (!attempt.signal.aborted) return framedConnection(link, peer, { opens: true });
    await link.close();
    throw failure ?? abortReason(signal);
  } catch (error) {
    if (signal.aborted) throw abortReason(signal);
    throw explain("Cannot connect to", peer, failure ?? error);
  } finally {
    clearTimeout(timer);
    late.abort();
    signal.removeEventListener("abort", onAbort);
  }
}

interface Serving {
  readonly quic: QuicRuntime;
  readonly text: string;
  readonly signal: AbortSignal;
  readonly security: ListenSecurity | undefined;
  readonly readAhead: number | undefined;
  readonly times: QuicTimes;
}

async function serve(ip: string, port: number, serving: Serving): Promise<Listener> {
  const { quic, text, signal, security = listenAsNobody(), readAhead, times } = serving;
  if (signal.aborted) throw abortReason(signal);
  const peers = acceptQueue();
  const strangers = new Strangers<ArrivingPeer>((one) => one.drop());

  async function welcome(stranger: ArrivingPeer): Promise<void> {
    strangers.add(stranger);
    const timer = setTimeout(stranger.drop, times.handshake);
    try {
      const link = await stranger.link;
      const peer = formatHostPort("quic", link.remote.ip, link.remote.port);
      peers.offer(framedConnection(link, peer, { readAhead }));
    } catch {
      stranger.drop();
    } finally {
      clearTimeout(timer);
      strangers.release(stranger);
    }
  }

  const current = await renewed(security, (credentials) => credentials);
  let credentials = await current();
  let server: QuicServer;
  try {
    server = await quic.listen(ip, port, { credentials, idleMs: times.idle, onPeer: (one) => void welcome(one) });
  } catch (error) {
    throw explain("Cannot listen at", text, error);
  }
  const renewal = setInterval(async () => {
    // Where new ones can't be had, the old ones are shown for as long as they last.
    const fresh = await current().catch(() => credentials);
    if (fresh !== credentials && closing === undefined) server.renew(fresh);
    credentials = fresh;
  }, times.renewal);
  renewal.unref();
  let closing: Promise<void> | undefined;
  const close = (error?: Error) => {
    if (closing === undefined) {
      signal.removeEventListener("abort", onAbort);
      clearInterval(renewal);
      peers.close(error);
      closing = server.close().catch(() => {});
    }
    return closing;
  };
  const onAbort = () => void close(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  return { address: formatHostPort("quic", ip, server.port), accept: peers.accept, close: () => close() };
}

function explain(doing: string, peer: string, error: unknown): ShrinkerError {
  if (error instanceof StreamFailure) {
    if (error.code === "UNTRUSTED") return new UntrustedPeerError(peer, error.claims, { cause: error });
    if (error.code === "PROTOCOL")
      return new LinkError(
        `${doing} ${peer}: it speaks another protocol than ${ALPN}; is it a shrinker of this version?`,
        {
          cause: error,
        },
      );
  }
  return socketError(doing, peer, error);
}
