import net from "node:net";
import { abortReason } from "../core/errors.ts";
import type { DialSecurity, ListenSecurity } from "../core/transport/security.ts";
import { renewed, UntrustedPeerError } from "../core/transport/security.ts";
import type { Connection, Listener } from "../core/transport/transport.ts";
import { acceptQueue } from "./accept.ts";
import { socketError } from "./advice.ts";
import { Strangers } from "./strangers.ts";
import { streamConnection } from "./stream.ts";
import { claimedKey, type SecureStream, secureClient, secureServer, serverContext } from "./tls.ts";

/** What tcp and unix share: node:net sockets as connections. */

/** A peer that doesn't answer within this time is not there. */
export const CONNECT_MS = 10_000;
/** What a stranger has to make the handshake of TLS. */
export const HANDSHAKE_MS = 10_000;

/** Makes a connection of a connected socket, or of the TLS over it. */
export function socketConnection(
  socket: net.Socket,
  peer: string,
  readAhead?: number,
  secure?: SecureStream,
): Connection {
  const stream = secure?.stream ?? socket;
  const connection = streamConnection({
    peer,
    readable: stream,
    writable: stream,
    readAhead,
    hold: secure?.hold,
    explain: (error) => socketError("Lost the connection to", peer, error),
  });
  // Sockets of the file system know no reset.
  if (socket.remoteAddress === undefined) return connection;
  return {
    ...connection,
    ...(secure?.issuer && { issuer: secure.issuer }),
    reset(reason) {
      socket.resetAndDestroy();
      return connection.destroy(reason);
    },
  };
}

export interface ConnectOptions {
  readonly signal: AbortSignal;
  /** For the connection and, again, for TLS. */
  readonly timeoutMs?: number;
  /** With TLS, where it is given. */
  readonly security?: DialSecurity | undefined;
  /** To offer in TLS (ALPN). */
  readonly protocols?: readonly string[];
}

/**
 * Connects within `timeoutMs`.
 * @param peer the address, for messages
 */
export async function connectSocket(
  to: net.NetConnectOpts,
  peer: string,
  options: ConnectOptions,
): Promise<Connection> {
  const { signal, timeoutMs = CONNECT_MS, security } = options;
  if (security === undefined) return socketConnection(await openSocket(to, peer, signal, timeoutMs), peer);
  const { socket, secure } = await secureSocket(to, peer, { signal, timeoutMs, security });
  return socketConnection(socket, peer, undefined, secure);
}

/** Connects, and makes the handshake of TLS. Rejects as `connectSocket` does. */
export async function secureSocket(
  to: net.NetConnectOpts,
  peer: string,
  options: ConnectOptions & { readonly security: DialSecurity },
): Promise<{ readonly socket: net.Socket; readonly secure: SecureStream }> {
  const { signal, timeoutMs = CONNECT_MS, security, protocols } = options;
  const socket = await openSocket(to, peer, signal, timeoutMs);
  const onAbort = () => socket.destroy();
  signal.addEventListener("abort", onAbort);
  try {
    const secure = await secureClient(socket, security, peer, timeoutMs, protocols);
    if (!signal.aborted) return { socket, secure };
    secure.stream.destroy();
    throw abortReason(signal);
  } catch (error) {
    if (signal.aborted) throw abortReason(signal);
    if (!(error instanceof UntrustedPeerError)) throw error;
    const claims = await openSocket(to, peer, signal, timeoutMs).then(
      (again) => claimedKey(again, security.serverName, timeoutMs),
      () => undefined,
    );
    throw new UntrustedPeerError(peer, claims, { cause: error.cause });
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function openSocket(to: net.NetConnectOpts, peer: string, signal: AbortSignal, timeoutMs: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(abortReason(signal));
    const socket = net.connect({ ...to, allowHalfOpen: true });
    const settle = (error?: Error) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      socket.removeListener("connect", settle);
      socket.removeListener("error", onError);
      if (error === undefined) return resolve(socket.setNoDelay(true));
      // A socket may report once more after it was given up.
      socket.on("error", () => {});
      socket.destroy();
      reject(error);
    };
    const onAbort = () => settle(abortReason(signal));
    const onError = (error: unknown) => settle(socketError("Cannot connect to", peer, error));
    const timer = setTimeout(() => onError({ code: "ETIMEDOUT" }), timeoutMs);
    signal.addEventListener("abort", onAbort);
    socket.once("connect", () => settle());
    socket.once("error", onError);
  });
}

export interface ServerOptions {
  readonly signal: AbortSignal;
  /** The address as the user wrote it, for messages. */
  readonly text: string;
  /** Starts to listen. */
  bind(server: net.Server): void;
  /** The address in full, once it listens. */
  address(server: net.Server): string;
  peer(socket: net.Socket): string;
  readonly readAhead?: number | undefined;
  /** With TLS, where it is given. */
  readonly security?: ListenSecurity | undefined;
  closed?(): void;
}

/** Listens; the signal also ends the listener, and a waiting `accept` then rejects with its reason. */
export async function serveSockets(options: ServerOptions): Promise<Listener> {
  const { signal, text, security } = options;
  if (signal.aborted) throw abortReason(signal);
  const peers = acceptQueue();
  const greet = security && (await secureGreeter(security));
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.setNoDelay(true);
    const peer = options.peer(socket);
    if (greet === undefined) return peers.offer(socketConnection(socket, peer, options.readAhead));
    greet(socket, (secure) => peers.offer(socketConnection(socket, peer, options.readAhead, secure)));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.removeListener("error", reject);
      resolve();
    });
    options.bind(server);
  }).catch((error) => {
    throw socketError("Cannot listen at", text, error);
  });
  let open = true;
  const close = (error?: Error) => {
    if (!open) return;
    open = false;
    signal.removeEventListener("abort", onAbort);
    peers.close(error);
    // Its callback would wait for the connections, which go on; the address is free at once.
    server.close();
    options.closed?.();
  };
  const onAbort = () => close(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  server.on("error", (error) => close(socketError("Cannot listen at", text, error)));
  if (signal.aborted) onAbort();
  return { address: options.address(server), accept: peers.accept, close: async () => close() };
}

/**
 * Makes the handshakes of TLS with whoever comes, several at once; what fails is dropped.
 * @returns takes a socket, and gives out what comes of it, unless it fails
 */
async function secureGreeter(security: ListenSecurity) {
  const current = await renewed(security, serverContext);
  const strangers = new Strangers<net.Socket>((one) => one.destroy());
  return (socket: net.Socket, done: (secure: SecureStream) => void): void => {
    // Until TLS has it, which listens as well.
    socket.on("error", () => {});
    strangers.add(socket);
    current()
      .then((context) => secureServer(socket, context, HANDSHAKE_MS))
      .then(done, () => socket.destroy())
      .finally(() => strangers.release(socket));
  };
}
