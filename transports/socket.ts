import net from "node:net";
import { abortReason, LinkError, ShrinkerError, systemCode } from "../core/errors.ts";
import type { Connection, Listener } from "../core/transport/transport.ts";
import { acceptQueue } from "./accept.ts";
import { streamConnection } from "./stream.ts";

/** What tcp and unix share: node:net sockets as connections, and system errors as advice. */

/** A peer that doesn't answer within this time is not there. */
export const CONNECT_MS = 10_000;

const ADVICE: Record<string, string> = {
  ECONNREFUSED: "nothing listens there; start `shrinker receive --listen ADDRESS` there first",
  ENOENT: "nothing listens there; start `shrinker receive --listen ADDRESS` there first",
  ECONNRESET: "the peer broke the connection; its own messages say why",
  ECONNABORTED: "the peer broke the connection; its own messages say why",
  EPIPE: "the peer has closed the connection; its own messages say why",
  ETIMEDOUT: "it does not answer; check the address, and that no firewall is in the way",
  EHOSTUNREACH: "there is no route to that host; check the address and the network",
  ENETUNREACH: "there is no route to that network; check the address and the network",
  EADDRINUSE: "another process listens there; end it, or choose another address",
  EADDRNOTAVAIL: "this machine does not have that address; choose one that it has",
  ENOTFOUND: "no such host is known; check its name",
  EAI_AGAIN: "the name server does not answer; check the network, or give the number instead of the name",
  EACCES: "permission denied; choose an address that you may use (ports below 1024 need privileges)",
  EPERM: "permission denied; choose an address that you may use",
  ENOTDIR: "a part of its path is not a directory",
  EAGAIN: "it has too many connections that wait; try again",
  EMFILE: "this process has too many open files; raise `ulimit -n`",
};

/** @param doing what was tried, such as `Cannot connect to` */
export function socketError(doing: string, address: string, error: unknown): ShrinkerError {
  if (error instanceof ShrinkerError) return error;
  const advice = ADVICE[systemCode(error) ?? ""]?.replace("ADDRESS", address);
  const why = advice ?? (error instanceof Error ? error.message : "the connection closed early");
  return new LinkError(`${doing} ${address}: ${why}`, { cause: error });
}

/** Makes a connection of a connected socket. */
export function socketConnection(socket: net.Socket, peer: string, readAhead?: number): Connection {
  socket.setNoDelay(true);
  const connection = streamConnection({
    peer,
    readable: socket,
    writable: socket,
    readAhead,
    explain: (error) => socketError("Lost the connection to", peer, error),
  });
  // Sockets of the file system know no reset.
  if (socket.remoteAddress === undefined) return connection;
  return {
    ...connection,
    reset(reason) {
      socket.resetAndDestroy();
      return connection.destroy(reason);
    },
  };
}

/**
 * Connects within `timeoutMs`.
 * @param peer the address, for messages
 */
export function connectSocket(
  to: net.NetConnectOpts,
  peer: string,
  signal: AbortSignal,
  timeoutMs = CONNECT_MS,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(abortReason(signal));
    const socket = net.connect({ ...to, allowHalfOpen: true });
    const settle = (error?: Error) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      socket.removeListener("connect", settle);
      socket.removeListener("error", onError);
      if (error === undefined) return resolve(socketConnection(socket, peer));
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
  closed?(): void;
}

/** Listens; the signal also ends the listener, and a waiting `accept` then rejects with its reason. */
export async function serveSockets(options: ServerOptions): Promise<Listener> {
  const { signal, text } = options;
  if (signal.aborted) throw abortReason(signal);
  const peers = acceptQueue();
  const server = net.createServer({ allowHalfOpen: true }, (socket) =>
    peers.offer(socketConnection(socket, options.peer(socket), options.readAhead)),
  );
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
