import { setTimeout as sleep } from "node:timers/promises";
import { ShrinkerError } from "../errors.ts";
import type { Connection } from "./transport.ts";

/** How much of the rate may go at once after a pause. */
const BURST_MS = 50;
/** A write is cut into parts that take this long, so that a big one flows instead of lurching. */
const PART_MS = 10;

/**
 * Decides when bytes may go: the generic cell rate algorithm (ITU-T I.371), which is a token bucket that keeps one time
 * instead of a level.
 * @param rate bytes a second; > 0
 * @param burstMs what may go at once after a pause, in milliseconds of the rate
 * @returns a function that takes a number of bytes and the time in milliseconds, and gives the milliseconds to wait
 */
export function tokenBucket(rate: number, burstMs: number): (bytes: number, now: number) => number {
  let dueAt = Number.NEGATIVE_INFINITY;
  return (bytes, now) => {
    dueAt = Math.max(dueAt, now - burstMs) + (bytes * 1000) / rate;
    return Math.max(0, dueAt - now);
  };
}

/** Limits what is written to a connection to a rate. Reading is as fast as before. Throws `usage` for a rate <= 0. */
export function limitRate(connection: Connection, bytesPerSecond: number): Connection {
  if (!(bytesPerSecond > 0))
    throw new ShrinkerError("usage", `Cannot limit the rate to ${bytesPerSecond} bytes/s: give a rate above 0`);
  const wait = tokenBucket(bytesPerSecond, BURST_MS);
  const partBytes = Math.max(1, Math.floor((bytesPerSecond * PART_MS) / 1000));
  const destroyed = new AbortController();
  const { reset } = connection;
  return {
    ...connection,
    async write(buffers) {
      for (const part of cut(buffers, partBytes)) {
        const ms = wait(lengthOf(part), performance.now());
        // A destroyed connection ends the wait; the write below then rejects with the reason.
        if (ms >= 1) await sleep(ms, undefined, { signal: destroyed.signal }).catch(() => {});
        await connection.write(part);
      }
    },
    destroy(reason) {
      destroyed.abort();
      return connection.destroy(reason);
    },
    ...(reset && {
      reset(reason?: Error) {
        destroyed.abort();
        return reset(reason);
      },
    }),
  };
}

/** What is taken from a peer is taken in parts of this time, so that a slow one is not taken for a dead one. */
const TAKEN_MS = 100;

/**
 * Takes what comes no faster than a rate, and so lets a peer send no faster.
 * @param wait of the rate: `tokenBucket`, of one for all connections that share the rate
 * @param signal ends a wait; what follows is for the input to say
 */
export async function* paceInput(
  input: AsyncIterable<Uint8Array>,
  bytesPerSecond: number,
  wait: (bytes: number, now: number) => number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const partBytes = Math.max(1, Math.floor((bytesPerSecond * TAKEN_MS) / 1000));
  for await (const piece of input) {
    for (let start = 0; start < piece.length; start += partBytes) {
      const part = piece.subarray(start, start + partBytes);
      const ms = wait(part.length, performance.now());
      if (ms >= 1) await sleep(ms, undefined, { signal }).catch(() => {});
      yield part;
    }
  }
}

function lengthOf(buffers: readonly Uint8Array[]): number {
  return buffers.reduce((sum, buffer) => sum + buffer.length, 0);
}

/** Cuts buffers into parts of at most `most` bytes, as views. */
function* cut(buffers: readonly Uint8Array[], most: number): Generator<Uint8Array[]> {
  let part: Uint8Array[] = [];
  let room = most;
  for (const buffer of buffers) {
    for (let start = 0; start < buffer.length; ) {
      const view = buffer.subarray(start, start + room);
      part.push(view);
      start += view.length;
      room -= view.length;
      if (room === 0) {
        yield part;
        part = [];
        room = most;
      }
    }
  }
  if (part.length > 0) yield part;
}
