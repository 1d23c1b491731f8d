import { isIPv6 } from "node:net";
import type { TLSSocket } from "node:tls";
import { abortReason, LinkError } from "../../core/errors.ts";
import { type DialSecurity, UntrustedPeerError } from "../../core/transport/security.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { quicConnection } from "../quic/connection.ts";
import { secureSocket } from "../socket.ts";
import { type ClientSession, internal, type LoadedLibrary, type NativeSession } from "./library.ts";
import { type Http2Session, harden, PATH, sessionLink, WINDOWS, widen } from "./link.ts";

export interface Dialling {
  readonly library: LoadedLibrary;
  readonly port: number;
  /** The address, for messages. */
  readonly peer: string;
  readonly security: DialSecurity;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

interface Http2Client extends Http2Session {
  readonly socket: Pick<TLSSocket, "getPeerCertificate">;
  destroy(): void;
}

/**
 * Connects. The library can't be told whom to trust, only the hash of a certificate. So a connection of plain TLS comes
 * first, which proves that the listener's certificate leads to the anchor; the session's has to show the same one. Its key
 * is the listener's alone: who shows it, and can sign by it, is the listener.
 */
export async function connectSession(ip: string, dialling: Dialling): Promise<Connection> {
  const { library, port, peer, signal, timeoutMs } = dialling;
  const begun = performance.now();
  const { fingerprint, issuer } = await pin(ip, dialling);
  const left = Math.max(1, timeoutMs - (performance.now() - begun));
  const host = isIPv6(ip) ? `[${ip}]` : ip;
  const client = new library.WebTransport(`https://${host}:${port}${PATH}`, {
    ...WINDOWS,
    forceReliable: !library.http3,
    serverCertificateHashes: [{ algorithm: "sha-256", value: Buffer.from(fingerprint.replaceAll(":", ""), "hex") }],
    // Where HTTP/3 is tried first, half of the time is for HTTP/2.
    quicConnectTimeout: library.http3 ? left / 2 : left,
    webTransportConnectTimeout: left,
  });
  const cut = () => cutClient(client);
  client.closed.catch(() => {});
  const given = Promise.withResolvers<never>();
  const onAbort = () => given.reject(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  const late = () => given.reject(Object.assign(new Error("it took too long"), { code: "ETIMEDOUT" }));
  const timer = setTimeout(late, left);
  try {
    if (signal.aborted) onAbort();
    await Promise.race([client.ready, given.promise]);
    const overHttp3 = client.reliability === "supports-unreliable";
    if (!overHttp3) {
      const http2 = http2Of(client);
      // The library lets a certificate pass by its hash, or by an authority of the system's: only the hash counts here.
      if (http2.socket.getPeerCertificate().fingerprint256 !== fingerprint) throw new UntrustedPeerError(peer);
      harden(internal(client.sessionint, "objint") as NativeSession, cut);
      widen(http2);
    }
    const stream = await Promise.race([client.createBidirectionalStream(), given.promise]);
    const link = sessionLink({ session: client, stream, remote: { ip, port }, issuer, cut });
    return { ...quicConnection(link, peer, { opens: true }), carrier: overHttp3 ? "HTTP/3" : "HTTP/2" };
  } catch (error) {
    cut();
    if (error instanceof Error && error.message.startsWith("Opening handshake failed")) {
      const advice = "check that `shrinker` of this version listens there, with webtransport://";
      throw new LinkError(`Cannot connect to ${peer}: it does not speak WebTransport; ${advice}`, { cause: error });
    }
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** What the listener shows once it has proved that it may. */
async function pin(ip: string, { port, peer, security, signal, timeoutMs }: Dialling) {
  const { secure } = await secureSocket({ host: ip, port }, peer, { security, signal, timeoutMs });
  secure.stream.on("error", () => {});
  secure.stream.destroy();
  if (secure.fingerprint === undefined) throw new UntrustedPeerError(peer);
  return { fingerprint: secure.fingerprint, issuer: secure.issuer };
}

function http2Of(client: ClientSession): Http2Client {
  return internal(internal(client.sessionint.parentobj, "transportInt"), "clientInt") as Http2Client;
}

function cutClient(client: ClientSession): void {
  try {
    if (client.reliability === "supports-unreliable") client.close();
    else http2Of(client).destroy();
  } catch {
    // It was never open, or is closed already.
  }
}
