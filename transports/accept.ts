import { abortReason } from "../core/errors.ts";
import type { Connection, Listener } from "../core/transport/transport.ts";

/** Connections that nobody has accepted yet. Further ones are dropped: a peer must not make us hold more. */
const MAX_WAITING = 32;

/** Peers between the one that lets them in and the one that accepts them. */
export interface AcceptQueue {
  /** Hands over a connection; destroys it where nobody takes it. */
  offer(connection: Connection): void;
  accept(): Promise<Connection | undefined>;
  /** Whoever accepts gets `undefined`, or `error` where there is one. What waits is destroyed. */
  close(error?: Error): void;
}

export function acceptQueue(): AcceptQueue {
  const waiting: Connection[] = [];
  const takers: { resolve(connection: Connection | undefined): void; reject(error: Error): void }[] = [];
  let closed = false;
  let failure: Error | undefined;
  return {
    offer(connection) {
      const taker = takers.shift();
      if (taker !== undefined) taker.resolve(connection);
      else if (closed || waiting.length >= MAX_WAITING) void connection.destroy();
      else waiting.push(connection);
    },
    async accept() {
      if (failure !== undefined) throw failure;
      if (waiting.length > 0) return waiting.shift();
      if (closed) return undefined;
      return new Promise((resolve, reject) => takers.push({ resolve, reject }));
    },
    close(error) {
      if (closed) return;
      closed = true;
      failure = error;
      for (const connection of waiting.splice(0)) void connection.destroy();
      for (const { resolve, reject } of takers.splice(0)) error ? reject(error) : resolve(undefined);
    },
  };
}

/** A listener that has one peer, which is there already. The signal ends the listener, not the connection. */
export function onePeer(address: string, connection: Connection, signal: AbortSignal): Listener {
  const peers = acceptQueue();
  peers.offer(connection);
  const close = (error?: Error) => {
    signal.removeEventListener("abort", onAbort);
    peers.close(error);
  };
  const onAbort = () => close(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  return {
    address,
    async accept() {
      const peer = await peers.accept();
      close();
      return peer;
    },
    close: async () => close(),
  };
}
