import type { Sender } from "../engine/sender.ts";
import { ShrinkerError } from "../errors.ts";
import type { StreamTarget } from "../machines/machine.ts";
import type { Connection } from "../transport/transport.ts";
import { breakOff, connectionSink, connectionSource } from "./connection-stream.ts";

interface Waiting {
  readonly connection: Connection;
  readonly back: PromiseWithResolvers<void>;
}

export interface Carrying {
  /** What the other end is to connect to. */
  readonly service: string;
  /** The segmenter for what the local peer sends. */
  readonly format: string;
  readonly signal: AbortSignal;
}

/**
 * Where connections enter a session, at its source. Each becomes two streams: what its peer sends goes out under the name of a
 * service, what comes back is found by the connection's number.
 */
export class TunnelEntrance {
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;

  /** Connections that are being carried. */
  get size(): number {
    return this.#waiting.size;
  }

  /** For what comes back: the session's target. */
  readonly target: StreamTarget = {
    open: async ({ connection: number }) => {
      const waiting = this.#waiting.get(number ?? -1);
      if (!waiting) throw new ShrinkerError("refused", `Nobody waits for the other direction of connection ${number}`);
      return connectionSink(waiting.connection, (error) => {
        if (error) waiting.back.reject(error);
        else waiting.back.resolve();
      });
    },
  };

  /**
   * Carries a connection until both of its directions have ended. Rejects with what broke it, and then it is broken here,
   * too: `refused` where the other end could not connect.
   */
  async carry(sender: Sender, connection: Connection, { service, format, signal }: Carrying): Promise<void> {
    const number = this.#next++;
    const back = Promise.withResolvers<void>();
    back.promise.catch(() => {});
    this.#waiting.set(number, { connection, back });
    try {
      const info = { name: `${service} ${number}`, format, connection: number, service };
      const out = sender.send(connectionSource(connection, info), signal);
      await Promise.all([out.then(({ landed }) => landed), back.promise]);
      await connection.destroy();
    } catch (error) {
      await breakOff(connection, error as Error);
      throw error;
    } finally {
      this.#waiting.delete(number);
    }
  }
}
