import { abortReason, LinkError, ShrinkerError } from "../core/errors.ts";
import type { Connection, Transport } from "../core/transport/transport.ts";
import { type AcceptQueue, acceptQueue } from "./accept.ts";
import { pieceQueue } from "./queue.ts";

/** What a direction holds before its writer has to wait. */
const CAPACITY = 1 << 20;
/** Writes are copied in parts of this size, so that the bound holds for a write of any size. */
const PART = 256 * 1024;

/** One direction: what is written at one end is read at the other. */
function pipe(peer: string) {
  let failure: Error | undefined;
  let ended = false;
  let wake: (() => void) | undefined;
  const queue = pieceQueue(() => wake?.());

  async function write(buffers: readonly Uint8Array[]): Promise<void> {
    for (const buffer of buffers) {
      for (let start = 0; start < buffer.length; start += PART) {
        while (queue.size >= CAPACITY && failure === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        if (failure !== undefined) throw failure;
        // The reader keeps its pieces and the writer reuses its buffers: somebody has to copy.
        queue.push(new Uint8Array(buffer.subarray(start, start + PART)));
      }
    }
    if (failure !== undefined) throw failure;
    if (ended) throw new ShrinkerError("bug", `Wrote to ${peer} after the end`);
  }

  return {
    output: queue.output,
    write,
    async end() {
      if (failure !== undefined && !ended) throw failure;
      ended = true;
      queue.end();
    },
    /** The writer dropped the connection: what it had written is still read, then `forReader`, unless it had ended. */
    writerGone(forWriter: Error, forReader: Error) {
      failure ??= forWriter;
      queue.fail(forReader);
      wake?.();
    },
    /** The reader dropped the connection. */
    readerGone(forReader: Error, forWriter: Error) {
      failure ??= forWriter;
      queue.fail(forReader, true);
      wake?.();
    },
  };
}

/** Two connected ends in this process. */
export function memoryPair(address = "memory:"): [Connection, Connection] {
  const there = pipe(address);
  const back = pipe(address);
  const side = (out: typeof there, into: typeof there): Connection => {
    let destroyed = false;
    return {
      peer: address,
      duplex: true,
      input: into.output,
      write: out.write,
      end: out.end,
      async destroy(reason = new LinkError(`The connection to ${address} was dropped`)) {
        if (destroyed) return;
        destroyed = true;
        const gone = new LinkError(`${address} dropped the connection; its own message says why`);
        out.writerGone(reason, gone);
        into.readerGone(reason, gone);
      },
    };
  };
  return [side(there, back), side(back, there)];
}

const listeners = new Map<string, AcceptQueue>();

/** `memory:NAME`: two ends in one process, with bounded buffers, for embedding and for tests. */
export const memory: Transport = {
  scheme: "memory",
  resumable: true,
  authenticates: false,
  async dial({ rest, text }, { signal }) {
    if (signal.aborted) throw abortReason(signal);
    const listener = listeners.get(rest);
    if (listener === undefined)
      throw new LinkError(`Cannot connect to ${text}: nothing listens there in this process; listen first`);
    const [near, far] = memoryPair(text);
    listener.offer(far);
    return near;
  },
  async listen({ rest, text }, { signal }) {
    if (signal.aborted) throw abortReason(signal);
    if (rest === "") throw new ShrinkerError("usage", `Cannot listen at "${text}": expected memory:NAME`);
    if (listeners.has(rest))
      throw new LinkError(`Cannot listen at ${text}: it is taken in this process; choose another name`);
    const peers = acceptQueue();
    listeners.set(rest, peers);
    const close = (error?: Error) => {
      signal.removeEventListener("abort", onAbort);
      if (listeners.get(rest) === peers) listeners.delete(rest);
      peers.close(error);
    };
    const onAbort = () => close(abortReason(signal));
    signal.addEventListener("abort", onAbort);
    return { address: text, accept: peers.accept, close: async () => close() };
  },
};
