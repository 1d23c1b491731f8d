import { LinkError, ShrinkerError } from "../../core/errors.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { guard } from "../guard.ts";
import { cutSegments, fillSegment, SEGMENT_BYTES } from "./cutter.ts";
import { SEGMENT_HEADER_BYTES, writeSegmentHeader } from "./format.ts";
import { Joiner } from "./joiner.ts";

/** One of several connections, and what is being written to it. */
interface Lane {
  readonly connection: Connection;
  /** A segment and its header; its own from when it is filled until it is written. */
  buffer: Buffer | undefined;
  written: Promise<void>;
}

/**
 * One connection that several carry: its bytes go as numbered segments, each over whichever connection has room. Where one of
 * them breaks, all is broken. Each direction holds at most one segment a connection when it sends, and one piece of each when it
 * receives: a connection that stalls holds up the others, and so the sender.
 * @param connections of the same peer, all duplex, whose heads have been said
 */
export function stripedConnection(connections: readonly Connection[]): Connection {
  const { peer, carrier, identity } = connections[0]!;
  const broken = guard();
  const lanes = connections.map((connection): Lane => ({ connection, buffer: undefined, written: Promise.resolve() }));
  /** Those that have room, the one that has had it for longest first. */
  const idle = [...lanes];
  let room: (() => void) | undefined;
  let number = 0;
  let ending: Promise<void> | undefined;
  let dropped = false;
  let wakeReader: (() => void) | undefined;

  async function freeLane(): Promise<Lane> {
    while (idle.length === 0)
      await broken.wait(
        new Promise<void>((resolve) => {
          room = resolve;
        }),
      );
    if (broken.failure) throw broken.failure;
    return idle.shift()!;
  }

  async function send(lane: Lane, bytes: Uint8Array): Promise<void> {
    try {
      await lane.connection.write([bytes]);
      idle.push(lane);
      room?.();
    } catch (error) {
      // What the peer has said before it left may still be read: the reader learns of it in its turn.
      broken.fail(error as Error);
    }
  }

  async function write(buffers: readonly Uint8Array[]): Promise<void> {
    if (ending !== undefined) throw new ShrinkerError("bug", `Wrote to ${peer} after the end`);
    for (const segment of cutSegments(buffers, SEGMENT_BYTES)) {
      const lane = await freeLane();
      lane.buffer ??= Buffer.allocUnsafe(SEGMENT_HEADER_BYTES + SEGMENT_BYTES);
      const length = fillSegment(lane.buffer, segment, number);
      number = (number + 1) >>> 0;
      lane.written = send(lane, lane.buffer.subarray(0, length));
    }
    if (broken.failure) throw broken.failure;
  }

  async function endLane({ connection, written }: Lane): Promise<void> {
    await written;
    if (broken.failure) throw broken.failure;
    const end = Buffer.alloc(SEGMENT_HEADER_BYTES);
    writeSegmentHeader(end, 0, number);
    await connection.write([end]);
    await connection.end();
  }

  async function* read(): AsyncGenerator<Uint8Array> {
    const joiner = new Joiner(lanes.length, peer);
    const inputs = connections.map(({ input }) => input[Symbol.asyncIterator]());
    const asked = new Set<number>();
    let failure: Error | undefined;
    const ask = async (index: number) => {
      asked.add(index);
      try {
        const next = await inputs[index]!.next();
        if (next.done) joiner.close(index);
        else joiner.give(index, next.value);
      } catch (error) {
        failure ??= error as Error;
      }
      asked.delete(index);
      wakeReader?.();
    };
    try {
      for (;;) {
        if (dropped) throw broken.failure;
        const part = joiner.take();
        for (let i = 0; i < inputs.length && !failure; i++) if (!asked.has(i) && joiner.wants(i)) void ask(i);
        if (part) {
          yield part;
          continue;
        }
        if (failure) throw failure;
        if (joiner.over) return;
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
      }
    } catch (error) {
      broken.fail(error as Error);
      throw error;
    }
  }

  async function give(reason: Error, how: (connection: Connection) => Promise<void>): Promise<void> {
    dropped = true;
    broken.fail(reason);
    wakeReader?.();
    await Promise.all(connections.map(how));
  }

  const resets = connections.every(({ reset }) => reset !== undefined);
  return {
    peer,
    duplex: true,
    carrier,
    ...(identity && { identity }),
    input: read(),
    write,
    end() {
      ending ??= broken.failure
        ? Promise.reject(broken.failure)
        : broken.wait(Promise.all(lanes.map(endLane))).then(() => {});
      return ending;
    },
    destroy: (reason = new LinkError(`The connection to ${peer} was dropped`)) =>
      give(reason, (connection) => connection.destroy(reason)),
    ...(resets && {
      reset: (reason: Error = new LinkError(`The connection to ${peer} was broken off`)) =>
        give(reason, (connection) => connection.reset!(reason)),
    }),
  };
}
