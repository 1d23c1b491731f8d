import { ShrinkerError } from "../errors.ts";
import type { DialSecurity, ListenSecurity } from "./security.ts";

/**
 * A transport carries bytes between two processes, or into a file. It knows nothing of frames. Every transport runs the
 * suite of test/transports/compliance.ts.
 */
export interface Transport {
  /** What stands before the colon of its addresses. */
  readonly scheme: string;
  /** Whether a broken connection may be dialled again and the session go on, and several may carry one session. */
  readonly resumable: boolean;
  /**
   * Whether it goes where strangers may be: then it encrypts, proves the listener's identity to who dials, and throws
   * `refused` where it is given neither `security` nor `insecure`. The others are protected by the system, or by a command.
   */
  readonly authenticates: boolean;
  /** Connects. Rejects with a `LinkError`, `ShrinkerError("refused")`, or the signal's reason. */
  dial(address: Address, options: DialOptions): Promise<Connection>;
  /** Waits for peers. Rejects as `dial` does. */
  listen(address: Address, options: ListenOptions): Promise<Listener>;
}

export interface DialOptions {
  /** Ends the attempt; a connection that was made is ended by its `destroy`. */
  readonly signal: AbortSignal;
  /** Whom to expect, of a transport that authenticates. */
  readonly security?: DialSecurity | undefined;
  /** Allows a connection that proves nobody's identity: plain for `tcp:`, encrypted for whoever answers with others. */
  readonly insecure?: boolean;
  /** Allows an existing target (a bundle) to be replaced. */
  readonly force?: boolean;
}

export interface ListenOptions {
  /** Ends the attempt and the listener: a waiting `accept` then rejects with the reason. Accepted connections go on. */
  readonly signal: AbortSignal;
  /** What to show to who dials, of a transport that authenticates. */
  readonly security?: ListenSecurity | undefined;
  readonly insecure?: boolean;
  /** Bytes of a peer that may wait for whoever reads, where the transport can say that; its own bound unless given. */
  readonly readAhead?: number;
}

/**
 * One connection: an ordered byte stream each way, or one way where `duplex` is false. Its functions need no `this`, so that
 * what is put around one takes it over whole (`{ ...connection, write }`).
 */
export interface Connection {
  /** The other end, for messages: `tcp://192.0.2.1:4747`. */
  readonly peer: string;
  /** False for a recording (`file:`): what is dialled only takes bytes, what is accepted only gives them. */
  readonly duplex: boolean;
  /** The protocol that carries it, where its transport has several, for the user: `HTTP/2`. */
  readonly carrier?: string | undefined;
  /** True where what was written may be followed by bytes of before: a device is longer than the bundle on it. */
  readonly padded?: boolean;
  /**
   * Of a dialled connection, the key that the listener's certificate was issued by, as text, where the transport can tell:
   * the one that is pinned, or one that has succeeded it.
   */
  readonly issuer?: string | undefined;
  /** Who the peer is, where it has proved that; only of accepted connections. */
  readonly identity?: PeerIdentity | undefined;
  /**
   * The peer's bytes, in pieces of any length, to be consumed once. A piece is the consumer's to keep. Ends when the peer
   * has ended its direction; throws a `LinkError` when the connection breaks. Bytes that nobody takes are held back from
   * the peer (bounded buffers).
   */
  readonly input: AsyncIterable<Uint8Array>;
  /**
   * Sends buffers in order. Resolves when the connection can take more; until then the bytes must not change. Calls
   * don't overlap. Rejects with a `LinkError` (or `space` for a bundle) once the connection is broken.
   */
  write(buffers: readonly Uint8Array[]): Promise<void>;
  /** Ends this side's direction, after what was written. A bundle is synced and takes its name now. The peer's bytes go on. */
  end(): Promise<void>;
  /**
   * Drops both directions at once; never rejects, may be called at any time and again. What was not ended is undone (a
   * bundle that was not ended is removed, a child is ended). `input` and pending writes fail with `reason`.
   */
  destroy(reason?: Error): Promise<void>;
  /** As `destroy`, and the peer is to see a failure instead of an end; where it is missing, that can't be told apart. */
  reset?(reason?: Error): Promise<void>;
}

/** A peer that has proved who it is, and what it may do here. */
export interface PeerIdentity {
  /** Its public key, as text. */
  readonly key: string;
  /** What it is called here. */
  readonly name: string;
  readonly permissions: Permissions;
}

/** What a peer may do. What is not given is not restricted. */
export interface Permissions {
  /** Domains whose contents it may refer to. */
  readonly domains?: readonly string[] | undefined;
  /** Services that it may connect to. */
  readonly services?: readonly string[] | undefined;
  /** Names of the guests and files that it may bring; `*` stands for any characters. */
  readonly vms?: readonly string[] | undefined;
  /** At once. */
  readonly maxSessions?: number | undefined;
  /** Bytes of contents that a session of its may have remembered here. */
  readonly memory?: number | undefined;
  /** Bytes a second that are taken from it, over all of its connections. */
  readonly rate?: number | undefined;
}

export interface Listener {
  /** Where it listens, with the port filled in: `tcp://127.0.0.1:40211`. */
  readonly address: string;
  /** The protocols by which peers can come, where its transport has several, for the user: `HTTP/2`. */
  readonly carrier?: string | undefined;
  /** The next peer, or undefined once closed (or where there is only one: `file:`, `--stdio`). */
  accept(): Promise<Connection | undefined>;
  /** Takes no more peers; connections that were accepted go on. */
  close(): Promise<void>;
}

/** `scheme:rest` or `scheme://rest`; the transport reads `rest`. */
export interface Address {
  readonly scheme: string;
  readonly rest: string;
  /** As the user wrote it. */
  readonly text: string;
}

export type TransportRegistry = ReadonlyMap<string, Transport>;

/** Splits an address. Throws `ShrinkerError("usage")` where it has no scheme that `known` has. */
export function parseAddress(text: string, known: TransportRegistry): Address {
  const match = /^([a-z][a-z0-9+]*):(.*)$/s.exec(text);
  const schemes = [...known.keys()].map((scheme) => `${scheme}:`).join(", ");
  if (!match)
    throw new ShrinkerError("usage", `Cannot parse "${text}": expected an address that begins with ${schemes}`);
  const [, scheme, rest] = match as unknown as [string, string, string];
  if (!known.has(scheme))
    throw new ShrinkerError("usage", `Unknown scheme "${scheme}:" in "${text}": use one of ${schemes}`);
  return { scheme, rest: rest.startsWith("//") ? rest.slice(2) : rest, text };
}
