import type { Readable, Writable } from "node:stream";
import { LinkError, ShrinkerError } from "../core/errors.ts";
import type { Connection } from "../core/transport/transport.ts";
import { within } from "../core/within.ts";
import { coalesce } from "./coalesce.ts";
import { pieceQueue } from "./queue.ts";

/** Received bytes that may wait for their consumer; then the stream is paused, and with it the peer. */
const MAX_WAITING = 1 << 20;
/** How long `destroy` waits for the runtime to close its streams. */
export const CLOSE_MS = 1000;

/** The two directions of a connection as the runtime's streams: one object for a socket, two for a process. */
export interface StreamParts {
  readonly peer: string;
  readonly readable: Readable;
  readonly writable: Writable;
  /** Received bytes that may wait; 1 MiB unless it is said otherwise. */
  readonly readAhead?: number | undefined;
  /** Stops what feeds the readable, and lets it go on, where pausing that is not enough. */
  readonly hold?: ((on: boolean) => void) | undefined;
  /** Puts a stream's failure, `undefined` where it just closed, into words. */
  explain(error: unknown): Error | Promise<Error>;
  /** Called when the peer has ended its direction; rejects where that end is a failure. */
  ended?(): Promise<void>;
  /** What `destroy` waits for, where it isn't that the runtime has closed the streams. */
  dropped?(): Promise<void>;
}

/** Makes a connection of the runtime's streams, with backpressure both ways. */
export function streamConnection(parts: StreamParts): Connection {
  const { peer, readable, writable, readAhead = MAX_WAITING } = parts;
  let failure: Error | undefined;
  let rejectPending: ((error: Error) => void) | undefined;
  let inputEnded = false;
  let ending: Promise<void> | undefined;
  let dropping: Promise<void> | undefined;

  const queue = pieceQueue(() => {
    if (queue.size >= readAhead || !readable.isPaused()) return;
    readable.resume();
    parts.hold?.(false);
  });

  function fail(error: Error, drop = false): void {
    if (drop || failure === undefined) queue.fail(error, drop);
    failure ??= error;
    rejectPending?.(failure);
  }
  async function broke(error: unknown): Promise<void> {
    if (failure === undefined) fail(await parts.explain(error));
  }
  async function finishInput(): Promise<void> {
    if (inputEnded) return;
    inputEnded = true;
    try {
      await parts.ended?.();
      queue.end();
    } catch (error) {
      fail(error as Error);
    }
  }

  readable.on("data", (piece: Uint8Array) => {
    queue.push(piece);
    if (queue.size < readAhead || readable.isPaused()) return;
    readable.pause();
    parts.hold?.(true);
  });
  readable.on("end", finishInput);
  for (const stream of new Set([readable, writable])) stream.on("error", broke);
  readable.on("close", () => {
    if (!inputEnded) void broke(undefined);
  });

  /** Runs one call of the writable; a broken connection rejects it even where the runtime forgets its callback. */
  function settle(start: (done: (error?: Error | null) => void) => void): Promise<void> {
    if (failure !== undefined) return Promise.reject(failure);
    return new Promise<void>((resolve, reject) => {
      rejectPending = reject;
      start((error) => {
        if (error) return void broke(error);
        rejectPending = undefined;
        resolve();
      });
    });
  }

  async function drop(): Promise<void> {
    const closed = Promise.all(
      [...new Set([readable, writable])].map(
        (stream) => stream.closed || new Promise((resolve) => stream.once("close", resolve)),
      ),
    );
    readable.destroy();
    writable.destroy();
    await (parts.dropped === undefined ? within(closed, CLOSE_MS) : parts.dropped());
  }

  return {
    peer,
    duplex: true,
    input: queue.output,
    async write(buffers) {
      if (ending !== undefined) throw new ShrinkerError("bug", `Wrote to ${peer} after the end`);
      // One at a time: the runtimes join what they have to queue, which would copy big buffers.
      for (const buffer of coalesce(buffers)) await settle((done) => writable.write(buffer, done));
      if (failure !== undefined) throw failure;
    },
    end() {
      ending ??= settle((done) => writable.end(done));
      return ending;
    },
    destroy(reason = new LinkError(`The connection to ${peer} was dropped`)) {
      if (dropping === undefined) {
        fail(reason, true);
        dropping = drop().catch(() => {});
      }
      return dropping;
    },
  };
}
