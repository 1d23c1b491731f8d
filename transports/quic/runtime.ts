import type { Credentials, DialSecurity } from "../../core/transport/security.ts";

/** What the transport wants of a runtime's QUIC: TLS, connections with one bidirectional stream each, and nothing more. */
export interface QuicRuntime {
  /** Rejects with a `QuicFailure`, or the signal's reason. */
  dial(ip: string, port: number, options: QuicDialOptions): Promise<QuicLink>;
  /** Rejects with a `QuicFailure`. */
  listen(ip: string, port: number, options: QuicListenOptions): Promise<QuicServer>;
}

export interface QuicOptions {
  /** A connection that has been silent for this long is dead. */
  readonly idleMs: number;
}

export interface QuicDialOptions extends QuicOptions {
  readonly security: DialSecurity;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
}

export interface QuicListenOptions extends QuicOptions {
  readonly credentials: Credentials;
  /** A peer whose handshake has begun. */
  onPeer(arriving: ArrivingPeer): void;
}

export interface ArrivingPeer {
  /** The connection, once the peer has made its handshake and opened its stream; rejects where it can't. */
  readonly link: Promise<QuicLink>;
  /** Refuses it. */
  drop(): void;
}

export interface QuicServer {
  readonly port: number;
  /** What to show to peers that come from now on. */
  renew(credentials: Credentials): void;
  /** Takes no more peers; those that came go on. */
  close(): Promise<void>;
}

/** One connection, with its one stream. */
export interface QuicLink {
  readonly remote: { readonly ip: string; readonly port: number };
  /** At the dialler: the key that the listener's certificate was issued by, as text, where the runtime shows it. */
  readonly issuer?: string | undefined;
  /** The next bytes of the stream, the caller's to keep. Rejects with a `QuicFailure` once it is broken, or at its end. */
  read(): Promise<readonly Uint8Array[]>;
  /** Sends buffers in order. Resolves when they may change, and more can be taken. Calls don't overlap. */
  write(buffers: readonly Uint8Array[]): Promise<void>;
  /** Ends the connection at once, whatever is on its way. Resolves when the peer has been told, as far as can be known. */
  close(): Promise<void>;
}

/** Why a connection could not be made, or broke: a system error's code where one fits, so that it gets its advice. */
export class QuicFailure extends Error {
  readonly code: "UNTRUSTED" | "PROTOCOL" | "ETIMEDOUT" | "ECONNREFUSED" | "ECONNRESET" | "EADDRINUSE" | "OTHER";
  /** Of an untrusted listener, the key that its certificate names, as text, where the runtime shows it. */
  readonly claims: string | undefined;
  constructor(code: QuicFailure["code"], cause?: unknown, claims?: string) {
    super(cause instanceof Error ? cause.message : String(cause ?? code), { cause });
    this.name = "QuicFailure";
    this.code = code;
    this.claims = claims;
  }
}

/** Application Layer Protocol Negotiation (RFC 7301): whoever speaks another protocol is told so by TLS. */
export const ALPN = "shrinker/1";

/** What a connection is closed with. Not 0, which Bun doesn't tell from silence. */
export const CLOSED = 1;

/** Of the alert that ended TLS (RFC 8446, 6): QUIC carries it as 0x100 + its number (RFC 9001, 4.8). */
export function alertFailure(alert: number, cause: unknown): QuicFailure {
  if (alert === 120) return new QuicFailure("PROTOCOL", cause);
  return new QuicFailure((alert >= 42 && alert <= 46) || alert === 48 ? "UNTRUSTED" : "OTHER", cause);
}
