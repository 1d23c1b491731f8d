import type { Socket } from "node:net";
import { abortReason, ProtocolError, ShrinkerError } from "../../errors.ts";
import { Channel } from "./channel.ts";
import { negotiate } from "./negotiate.ts";
import { COMMAND, type Extent, encodeRequest, SEND_WHOLE } from "./protocol.ts";
import { type Request, takeReplies } from "./replies.ts";

/** A server has as long to introduce itself. Reads wait for ever, as those of a file do. */
export const HANDSHAKE_MS = 10_000;

/** A connection to an NBD server. Requests may be made while others are under way. */
export interface NbdClient {
  /** Bytes of the disk. */
  readonly size: number;
  /** Fills `into` with the bytes from `offset` on, with one request. At most 32 MiB, within the disk. */
  read(into: Uint8Array, offset: number): Promise<void>;
  /**
   * What the bytes from `offset` on are: at least the first of `length` bytes, perhaps more of the last extent. Within the
   * disk. A server that can't tell has bytes everywhere.
   */
  extents(offset: number, length: number): Promise<readonly Extent[]>;
  /** Rejects what waits, and every request from now on. */
  interrupt(reason: Error): void;
  /** Ends the connection. Never rejects. */
  close(): Promise<void>;
}

export interface ClientOptions {
  /** What is read, for messages. */
  readonly path: string;
  /** Ends the handshake. */
  readonly signal?: AbortSignal | undefined;
  /** Says why the server has closed the connection. */
  readonly explain?: (cause?: Error) => Promise<ShrinkerError>;
  /** Milliseconds for the handshake; 10 s unless given. */
  readonly handshakeMs?: number;
}

/**
 * Speaks with the server at the other end of a socket. What goes wrong ends the connection and rejects every request: with
 * `input` where the server gives an error or ends, with a `ProtocolError` where it breaks the protocol.
 */
export async function openClient(socket: Socket, options: ClientOptions): Promise<NbdClient> {
  const { path, signal, handshakeMs = HANDSHAKE_MS } = options;
  const pending = new Map<number, Request>();
  let failure: Error | undefined;
  let interrupted: Error | undefined;
  let losing = false;
  let lastHandle = 0;

  const unfit = (why: string) => new ShrinkerError("input", `Cannot read "${path}": ${why}`);
  const explain = options.explain ?? (async () => unfit("its NBD server closed the connection"));
  const channel = new Channel(socket, (cause) => {
    if (losing || failure) return;
    losing = true;
    void explain(cause).then(fail);
  });

  function fail(reason: Error): Error {
    failure ??= reason;
    channel.fail(failure);
    for (const { done } of pending.values()) done.reject(failure);
    pending.clear();
    return failure;
  }

  /** The parts say what is wrong, not where. */
  function named(error: unknown): Error {
    if (error === failure || !(error instanceof ShrinkerError)) return error as Error;
    if (!(error instanceof ProtocolError)) return unfit(error.message);
    const message = `Cannot read "${path}": its NBD server breaks the protocol: ${error.message}`;
    return new ProtocolError(message, { cause: error });
  }

  const onAbort = () => fail(abortReason(signal!));
  const timer = setTimeout(() => fail(unfit(`its NBD server is silent for ${handshakeMs / 1000} s`)), handshakeMs);
  signal?.addEventListener("abort", onAbort);
  if (signal?.aborted) onAbort();
  const { size, context } = await negotiate(channel)
    .catch((error) => {
      throw fail(named(error));
    })
    .finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    });
  void takeReplies(channel, pending, { size, context, unfit }).catch((error) => fail(named(error)));

  function send(command: number, flags: number, offset: number, length: number, into?: Uint8Array): Promise<Extent[]> {
    const refused = failure ?? interrupted;
    if (refused) return Promise.reject(refused);
    lastHandle = (lastHandle + 1) >>> 0;
    const done = Promise.withResolvers<Extent[]>();
    pending.set(lastHandle, { offset, length, into, extents: undefined, error: undefined, done });
    channel.write(encodeRequest(command, flags, lastHandle, offset, length));
    return done.promise;
  }

  return {
    size,
    async read(into, offset) {
      await send(COMMAND.READ, SEND_WHOLE, offset, into.length, into);
    },
    async extents(offset, length) {
      if (context === undefined) return [{ length, zeros: false }];
      return send(COMMAND.BLOCK_STATUS, 0, offset, length);
    },
    interrupt(reason) {
      interrupted ??= reason;
      if (pending.size > 0) fail(reason);
    },
    async close() {
      if (!failure) {
        losing = true;
        await channel.end(encodeRequest(COMMAND.DISCONNECT, 0, 0, 0, 0));
      }
      fail(unfit("it is closed"));
    },
  };
}
