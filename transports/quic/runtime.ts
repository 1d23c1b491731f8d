import type { Credentials, DialSecurity } from "../../core/transport/security.ts";
import { StreamFailure, type StreamLink } from "../framed/link.ts";

/** What the transport wants of a runtime's QUIC: TLS, connections with one bidirectional stream each, and nothing more. */
export interface QuicRuntime {
  /** Rejects with a `StreamFailure`, or the signal's reason. */
  dial(ip: string, port: number, options: QuicDialOptions): Promise<StreamLink>;
  /** Rejects with a `StreamFailure`. */
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
  readonly link: Promise<StreamLink>;
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

/** Application Layer Protocol Negotiation (RFC 7301): whoever speaks another protocol is told so by TLS. */
export const ALPN = "shrinker/1";

/** What a connection is closed with. Not 0, which Bun doesn't tell from silence. */
export const CLOSED = 1;

/** Of the alert that ended TLS (RFC 8446, 6): QUIC carries it as 0x100 + its number (RFC 9001, 4.8). */
export function alertFailure(alert: number, cause: unknown): StreamFailure {
  if (alert === 120) return new StreamFailure("PROTOCOL", cause);
  return new StreamFailure((alert >= 42 && alert <= 46) || alert === 48 ? "UNTRUSTED" : "OTHER", cause);
}
