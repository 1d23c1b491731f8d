import type { Sender } from "../engine/sender.ts";
import { ProtocolError, ShrinkerError } from "../errors.ts";
import type { StreamInfo, StreamTarget } from "../machines/machine.ts";
import type { Connection } from "../transport/transport.ts";
import { breakOff, connectionSink, connectionSource } from "./connection-stream.ts";

/** Connects to where a service is. Rejects with why it can't. */
export type DialService = (signal: AbortSignal) => Promise<Connection>;

export interface TunnelExit {
  /** By name; undefined for a service that is not offered. */
  readonly services: (name: string) => DialService | undefined;
  /** The session's sender, for what comes back; undefined where the source takes nothing back. */
  readonly sender: () => Sender | undefined;
  /** Streams that belong to no connection. */
  readonly others: StreamTarget;
  readonly signal: AbortSignal;
  /** Told of each connection that was made. */
  readonly connected?: (service: string) => void;
}

/** Where connections leave a session, at its destination: the session's target. */
export function exitTarget(exit: TunnelExit): StreamTarget {
  return {
    async open(info) {
      if (info.connection === undefined) return exit.others.open(info);
      const sender = exit.sender();
      if (!sender || info.service === undefined) throw new ProtocolError("The peer opens half a connection");
      const connection = await dial(exit, info.service);
      exit.connected?.(info.service);
      return join(connection, info, sender, exit.signal);
    },
  };
}

async function dial({ services, signal }: TunnelExit, name: string): Promise<Connection> {
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

/** Joins a connection to its two streams. */
function join(connection: Connection, { name, connection: number }: StreamInfo, sender: Sender, signal: AbortSignal) {
  const there = Promise.withResolvers<void>();
  const sink = connectionSink(connection, (error) => (error ? there.reject(error) : there.resolve()));
  const info = { name, format: "bytes", ...(number !== undefined && { connection: number }) };
  const back = sender.send(connectionSource(connection, info), signal).then(({ landed }) => landed);
  Promise.all([there.promise, back]).then(
    () => connection.destroy(),
    (error) => breakOff(connection, error as Error),
  );
  return sink;
}
