/** Links that misbehave, for tests: faults are transformations of a byte stream, put into a connection's directions. */
import { setTimeout as sleep } from "node:timers/promises";
import { LinkError } from "../../core/errors.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { guard } from "../../transports/guard.ts";
import { pieceQueue } from "../../transports/queue.ts";

export type Fault = (input: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

/** What the output may hold before `write` waits. */
const CAPACITY = 1 << 20;

/** Delivers everything `ms` later, in order. @param capacity bytes that may be on their way; more hold the sender back */
export function latency(ms: number, capacity = 16 << 20): Fault {
  return async function* (input) {
    const due: number[] = [];
    let wake: (() => void) | undefined;
    const queue = pieceQueue(() => wake?.());
    const read = async () => {
      for await (const piece of input) {
        if (piece.length === 0) continue;
        while (queue.size >= capacity)
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        due.push(performance.now() + ms);
        queue.push(piece);
      }
      due.push(performance.now() + ms);
      queue.end();
    };
    read().catch((error) => queue.fail(error));
    const arrival = () => sleep(Math.max(0, due.shift()! - performance.now()));
    for await (const piece of queue.output) {
      await arrival();
      yield piece;
    }
    await arrival();
  };
}

/** A stall that a test switches on and off; nothing is delivered while it is on. */
export function stall(): { fault: Fault; on(): void; off(): void } {
  let gate: PromiseWithResolvers<void> | undefined;
  return {
    on() {
      gate ??= Promise.withResolvers<void>();
    },
    off() {
      gate?.resolve();
      gate = undefined;
    },
    async *fault(input) {
      for await (const piece of input) {
        while (gate !== undefined) await gate.promise;
        yield piece;
      }
      while (gate !== undefined) await gate.promise;
    },
  };
}

/** Breaks the connection after so many bytes of this direction. */
export function cutAfter(bytes: number): Fault {
  return async function* (input) {
    let left = bytes;
    for await (const piece of input) {
      if (piece.length >= left) {
        yield piece.subarray(0, left);
        throw new LinkError(`The test cut the connection after ${bytes} bytes`);
      }
      left -= piece.length;
      yield piece;
    }
  };
}

/** Flips a bit of the byte at `offset`. */
export function corruptAt(offset: number): Fault {
  return async function* (input) {
    let start = 0;
    for await (const piece of input) {
      const at = offset - start;
      start += piece.length;
      if (at < 0 || at >= piece.length) yield piece;
      else {
        const wrong = new Uint8Array(piece);
        wrong[at]! ^= 0x10;
        yield wrong;
      }
    }
  };
}

/** Delivers in pieces of other lengths, 1 to `most` bytes; the same seed gives the same lengths. */
export function fragment(seed: number, most = 5000): Fault {
  let state = seed | 1;
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  return async function* (input) {
    for await (const piece of input) {
      for (let start = 0; start < piece.length; ) {
        // Cubed: mostly short pieces, some long ones.
        const length = 1 + Math.floor(random() ** 3 * most);
        yield piece.subarray(start, start + length);
        start += length;
      }
    }
  };
}

/** Puts faults into a connection: `input` into what it receives, `output` into what it sends; a fault that throws breaks both. */
export function faulty(
  connection: Connection,
  { input = [], output = [] }: { input?: readonly Fault[]; output?: readonly Fault[] },
): Connection {
  const work = guard();
  let wake: (() => void) | undefined;
  const fail = (error: Error) => {
    work.fail(error);
    wake?.();
    return connection.destroy(work.failure);
  };
  const apply = (faults: readonly Fault[], source: AsyncIterable<Uint8Array>) =>
    faults.reduce((stream, fault) => fault(stream), source);

  const queue = pieceQueue(() => wake?.());
  const sent = (async () => {
    for await (const piece of apply(output, queue.output)) await connection.write([piece]);
    await connection.end();
  })();
  sent.catch(fail);

  async function* received(): AsyncGenerator<Uint8Array> {
    const pieces = apply(input, connection.input)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await work.wait(pieces.next());
        if (next.done) return;
        yield next.value;
      }
    } catch (error) {
      void fail(error as Error);
      throw error;
    }
  }
  return {
    peer: connection.peer,
    duplex: connection.duplex,
    input: received(),
    async write(buffers) {
      for (const buffer of buffers) {
        while (queue.size >= CAPACITY && work.failure === undefined)
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        if (work.failure) throw work.failure;
        queue.push(new Uint8Array(buffer));
      }
    },
    async end() {
      queue.end();
      await work.wait(sent);
    },
    destroy(reason = new LinkError(`The connection to ${connection.peer} was dropped`)) {
      queue.fail(reason, true);
      return fail(reason);
    },
  };
}
