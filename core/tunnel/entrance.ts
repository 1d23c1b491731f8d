import type { Sender } from "../engine/sender.ts";
import { ShrinkerError } from "../errors.ts";
import { interruptible, NEVER } from "../interruptible.ts";
import type { StreamTarget } from "../machines/machine.ts";
import type { Connection } from "../transport/transport.ts";
import { MAX_STREAMS } from "../wire/numbers.ts";
import { breakOff, connectionSink, connectionSource } from "./connection-stream.ts";

/** Connections at once. Fewer than streams, as the other end may still be busy with some that have ended here. */
export const MAX_CONNECTIONS = MAX_STREAMS - 32;

export interface Carrying {
  /** What the other end is to connect to. */
  readonly service: string;
  /** The segmenter for what the local peer sends. */
  readonly format: string;
  /** Breaks the connection; so does the end of the session. */
  readonly signal?: AbortSignal;
}

interface Waiting {
  readonly connection: Connection;
  readonly back: PromiseWithResolvers<void>;
  /** The other end has opened the direction back, or is not to do that any more. */
  taken: boolean;
}

/**
 * Where connections enter a session, at its source. Each becomes two streams: what its peer sends goes out under the name of a
 * service, what comes back is found by the connection's number.
 */
export class TunnelEntrance {
  readonly #waiting = new Map<number, Waiting>();
  #wake: (() => void)[] = [];
  #next = 1;

  /** Connections that are being carried, and those that were broken and that the other end may not have ended yet. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Whether no further one is to be carried for now. */
  get full(): boolean {
    return this.size >= MAX_CONNECTIONS;
  }

  /** Resolves when a connection has ended. */
  left(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake.push(resolve);
    });
  }

  /** For what comes back: the session's target. */
  readonly target: StreamTarget = {
    open: async ({ connection: number }, failed = NEVER) => {
      const waiting = number === undefined ? undefined : this.#waiting.get(number);
      if (!waiting || waiting.taken) {
        const which = number === undefined ? "no connection" : `connection ${number}`;
        throw new ShrinkerError("refused", `Nobody waits for the other direction of ${which}`);
      }
      waiting.taken = true;
      return connectionSink(waiting.connection, failed, (error) => {
        if (error) waiting.back.reject(error);
        else waiting.back.resolve();
      });
    },
  };

  /**
   * Carries a connection until both of its directions have ended. Rejects with what broke it, and then it is broken here,
   * too: `refused` where the other end could not connect.
   */
  async carry(sender: Sender, connection: Connection, { service, format, signal = NEVER }: Carrying): Promise<void> {
    const number = this.#next++;
    const waiting: Waiting = { connection, back: Promise.withResolvers(), taken: false };
    const { promise: back } = waiting.back;
    const stop = new AbortController();
    back.catch(() => {});
    this.#waiting.set(number, waiting);
    const info = { name: `${service} ${number}`, format, connection: number, service };
    const out = sender.send(connectionSource(connection, info), stop.signal).then(({ landed }) => landed);
    try {
      await interruptible(Promise.all([out, back]), signal);
      await connection.destroy();
    } catch (error) {
      await breakOff(connection, error as Error);
      throw error;
    } finally {
      stop.abort();
      void Promise.allSettled([out, waiting.taken && back]).then(() => this.#leave(number));
      waiting.taken = true;
    }
  }

  #leave(number: number): void {
    this.#waiting.delete(number);
    for (const wake of this.#wake.splice(0)) wake();
  }
}
