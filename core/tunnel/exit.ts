import type { Sender } from "../engine/sender.ts";
import { ProtocolError, ShrinkerError } from "../errors.ts";
import { NEVER } from "../interruptible.ts";
import type { StreamInfo, StreamTarget } from "../machines/machine.ts";
import type { Connection } from "../transport/transport.ts";
import { MAX_STREAMS } from "../wire/numbers.ts";
import { breakOff, connectionSink, connectionSource } from "./connection-stream.ts";

/** Connects to where a service is; the signal ends the attempt. Rejects with why it can't. */
export type DialService = (signal: AbortSignal) => Promise<Connection>;

export interface TunnelExit {
  /** By name; undefined for a service that is not offered. */
  readonly services: (name: string) => DialService | undefined;
  /** The session's sender, for what comes back; undefined where the source takes nothing back. */
  readonly sender: () => Sender | undefined;
  /** Streams that belong to no connection. */
  readonly others: StreamTarget;
  /** Told of each connection that was made. */
  readonly connected?: (service: string) => void;
}

/** Where connections leave a session, at its destination: the session's target. One for each session. */
export function exitTarget(exit: TunnelExit): StreamTarget {
  const carried = new Set<number>();
  return {
    async open(info, failed = NEVER) {
      const { connection: number, service: name } = info;
      if (number === undefined && name === undefined) return exit.others.open(info, failed);
      const sender = exit.sender();
      if (!sender || number === undefined || name === undefined)
        throw new ProtocolError("The peer opens half a connection");
      if (carried.has(number)) throw new ProtocolError(`The peer opens connection ${number} again`);
      if (carried.size >= MAX_STREAMS)
        throw new ShrinkerError("refused", `There are ${MAX_STREAMS} connections, the limit of a session`);
      carried.add(number);
      try {
        const connection = await dial(exit, name, failed);
        exit.connected?.(name);
        const { sink, over } = join(connection, info, sender, failed);
        void over.then(() => carried.delete(number));
        return sink;
      } catch (error) {
        carried.delete(number);
        throw error;
      }
    },
  };
}

async function dial({ services }: TunnelExit, name: string, signal: AbortSignal): Promise<Connection> {
  const service = services(name);
  if (!service)
    throw new ShrinkerError("refused", `There is no service "${name}": offer it there with --service ${name}=ADDRESS`);
  try {
    return await service(signal);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ShrinkerError("refused", `The service "${name}" can't be reached: ${why}`, { cause: error });
  }
}

/** Joins a connection to its two streams: the one that came, and one back. `over` never rejects. */
function join(connection: Connection, { name, connection: number }: StreamInfo, sender: Sender, failed: AbortSignal) {
  const there = Promise.withResolvers<void>();
  const sink = connectionSink(connection, failed, (error) => (error ? there.reject(error) : there.resolve()));
  const info = { name, format: "bytes", ...(number !== undefined && { connection: number }) };
  const stop = new AbortController();
  const back = sender.send(connectionSource(connection, info), stop.signal).then(({ landed }) => landed);
  Promise.all([there.promise, back]).then(
    () => connection.destroy(),
    async (error) => {
      await breakOff(connection, error as Error);
      stop.abort();
    },
  );
  return { sink, over: Promise.allSettled([there.promise, back]) };
}
