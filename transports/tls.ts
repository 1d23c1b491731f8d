import type net from "node:net";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { LinkError, ShrinkerError, systemCode } from "../core/errors.ts";
import { isKeyWord } from "../core/identity/key.ts";
import { tlsReadsAhead } from "../core/runtime.ts";
import { type Credentials, type DialSecurity, UntrustedPeerError } from "../core/transport/security.ts";
import { socketError } from "./advice.ts";

/** TLS 1.3 (RFC 8446) over a connected socket, as a stream of its own. */
export interface SecureStream {
  readonly stream: Duplex;
  /** Stops reading the socket while on, where it is not enough to pause the stream. */
  readonly hold: ((on: boolean) => void) | undefined;
  /** At the dialler: the key that the listener's certificate was issued by, as text. */
  readonly issuer?: string | undefined;
  /** At the dialler: SHA-256 of the listener's certificate (DER), in pairs of hexadecimal digits with colons between. */
  readonly fingerprint?: string | undefined;
}

/** Of raw bytes that may lie between the socket and TLS. */
const WATERMARK = 256 * 1024;

/** What the runtimes say of a certificate that is not trusted. */
const UNTRUSTED = /^(CERT_|ERR_TLS_CERT|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED)/;
/** Failures of the socket itself. */
const ADVISED: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT", "ECONNABORTED"]);

interface Beneath {
  readonly carrier: Duplex;
  readonly hold?: (on: boolean) => void;
}

/**
 * What TLS is to stand on: the socket, or where that would be read without bounds (Deno 2.9), a stream that reads it only as
 * it is told. Bun 1.4's TLS over such a stream loses bytes when a side ends, so there is no one way for both.
 */
function beneath(raw: net.Socket): Beneath {
  return tlsReadsAhead ? carried(raw) : { carrier: raw };
}

function carried(raw: net.Socket): Beneath {
  let held = false;
  const carrier = new Duplex({
    allowHalfOpen: true,
    readableHighWaterMark: WATERMARK,
    read() {
      if (!held) raw.resume();
    },
    write: (bytes, _, done) => void raw.write(bytes, done),
    writev(chunks, done) {
      // TLS gives out records of 16 KiB: the system is to get them together.
      raw.cork();
      for (const [i, { chunk }] of chunks.entries()) raw.write(chunk, i === chunks.length - 1 ? done : undefined);
      raw.uncork();
    },
    final: (done) => void raw.end(done),
    destroy(error, done) {
      raw.destroy();
      done(error);
    },
  });
  raw.on("data", (bytes) => {
    if (!carrier.push(bytes) || held) raw.pause();
  });
  raw.on("end", () => carrier.push(null));
  raw.on("error", (error) => carrier.destroy(error));
  raw.on("close", () => carrier.destroy());
  // Whoever stands on it hears of its errors.
  carrier.on("error", () => {});
  const hold = (on: boolean) => {
    held = on;
    if (on) raw.pause();
    else raw.resume();
  };
  return { carrier, hold };
}

/** What a listener shows from now on. Throws where the runtime can't read it. */
export function serverContext({ certificates, privateKey }: Credentials): tls.SecureContext {
  return tls.createSecureContext({ cert: certificates, key: privateKey, minVersion: "TLSv1.3" });
}

/** Awaits a dialler's handshake. Rejects where it fails, or takes longer than `timeoutMs`; the socket is then dropped. */
export function secureServer(raw: net.Socket, context: tls.SecureContext, timeoutMs: number): Promise<SecureStream> {
  const { carrier, hold } = beneath(raw);
  const options = { isServer: true, secureContext: context, allowHalfOpen: true };
  const stream = new tls.TLSSocket(carrier as net.Socket, options);
  return handshake(stream, "secure", carrier, timeoutMs).then(() => ({ stream, hold }));
}

/**
 * Makes the dialler's handshake. Rejects with `refused` where the listener is not who is expected; the socket is then dropped.
 * @param peer the address, for messages
 * @param protocols to offer (ALPN, RFC 7301)
 */
export function secureClient(
  raw: net.Socket,
  { anchor, serverName }: DialSecurity,
  peer: string,
  timeoutMs: number,
  protocols: readonly string[] = [],
): Promise<SecureStream> {
  const { carrier, hold } = beneath(raw);
  const options = { ca: anchor, servername: serverName, minVersion: "TLSv1.3", allowHalfOpen: true } as const;
  const offer = protocols.length > 0 && { ALPNProtocols: [...protocols] };
  const stream = tls.connect({ socket: carrier as net.Socket, ...options, ...offer, rejectUnauthorized: true });
  return handshake(stream, "secureConnect", carrier, timeoutMs).then(
    () => {
      // Fails closed, should a runtime forget what it was asked for.
      if (stream.authorized)
        return { stream, hold, issuer: issuerOf(stream), fingerprint: stream.getPeerCertificate().fingerprint256 };
      carrier.destroy();
      throw new UntrustedPeerError(peer);
    },
    (error) => {
      throw explain(peer, error);
    },
  );
}

function handshake(stream: tls.TLSSocket, done: string, carrier: Duplex, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      clearTimeout(timer);
      stream.removeListener(done, succeeded);
      stream.removeListener("close", closed);
      if (error === undefined) {
        stream.removeListener("error", settle);
        return resolve();
      }
      // It may report once more after it was given up: then nobody listens to it.
      stream.on("error", () => {});
      stream.destroy();
      carrier.destroy();
      reject(error);
    };
    const succeeded = () => settle();
    const closed = () => settle(new LinkError("The connection was closed before its handshake was done"));
    const timer = setTimeout(
      () => settle(Object.assign(new Error("the handshake took too long"), { code: "ETIMEDOUT" })),
      timeoutMs,
    );
    stream.once(done, succeeded);
    stream.once("error", settle);
    stream.once("close", closed);
  });
}

/**
 * Asks an untrusted listener which key it claims to have, for a message. Undefined where it doesn't say; the socket is dropped.
 */
export async function claimedKey(raw: net.Socket, serverName: string, timeoutMs: number): Promise<string | undefined> {
  const { carrier } = beneath(raw);
  const options = { servername: serverName, minVersion: "TLSv1.3", rejectUnauthorized: false } as const;
  const stream = tls.connect({ socket: carrier as net.Socket, ...options });
  try {
    await handshake(stream, "secureConnect", carrier, timeoutMs);
    return issuerOf(stream);
  } catch {
    return undefined;
  } finally {
    stream.destroy();
    carrier.destroy();
  }
}

/** The name of the key that a listener's certificate was issued by, where it is a key's word. */
function issuerOf(stream: tls.TLSSocket): string | undefined {
  const name: unknown = stream.getPeerCertificate().issuer?.CN;
  return typeof name === "string" && isKeyWord(name) ? name : undefined;
}

function explain(peer: string, error: unknown): Error {
  const said = `${systemCode(error) ?? ""} ${error instanceof Error ? error.message : ""}`.trim();
  if (UNTRUSTED.test(said)) return new UntrustedPeerError(peer, undefined, { cause: error });
  if (error instanceof ShrinkerError || ADVISED.has(systemCode(error) ?? ""))
    return socketError("Cannot connect to", peer, error);
  const advice = "check that `shrinker` listens there, without --insecure";
  return new LinkError(`Cannot connect to ${peer}: TLS failed; ${advice} (${said.slice(0, 200)})`, { cause: error });
}
