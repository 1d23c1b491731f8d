import { randomBytes } from "node:crypto";
import { abortReason, ShrinkerError } from "../core/errors.ts";
import type { Address, Connection, DialOptions, Transport } from "../core/transport/transport.ts";
import { stripedConnection } from "./striped/connection.ts";
import { encodeHead, GROUP_BYTES, MAX_CONNECTIONS } from "./striped/format.ts";
import { gather } from "./striped/gather.ts";

export { MAX_CONNECTIONS };

/**
 * A transport whose connections are each carried by several of another one, where one can't fill a link that is fast and long:
 * its window, or what it takes a loss for, bounds what a connection has on the way. A listener takes connections of any number.
 * @param count connections that each `dial` makes, 1 to 16; 1 is a connection of `transport` as it is
 */
export function stripedTransport(transport: Transport, count: number): Transport {
  if (!Number.isInteger(count) || count < 1 || count > MAX_CONNECTIONS)
    throw new ShrinkerError("usage", `Cannot use ${count} connections: give 1 to ${MAX_CONNECTIONS}`);
  if (!transport.resumable) {
    if (count === 1) return transport;
    throw new ShrinkerError("usage", `Cannot use ${count} connections: ${transport.scheme}: has only one`);
  }
  return {
    ...transport,
    dial: (address, options) =>
      count === 1 ? transport.dial(address, options) : dialAll(transport, count, address, options),
    listen: async (address, options) => gather(await transport.listen(address, options)),
  };
}

/** Dials all connections at once; where one fails, the others are given up. */
async function dialAll(
  transport: Transport,
  count: number,
  address: Address,
  options: DialOptions,
): Promise<Connection> {
  const group = randomBytes(GROUP_BYTES);
  const others = new AbortController();
  const signal = AbortSignal.any([options.signal, others.signal]);
  const dialled: Connection[] = [];
  async function dial(index: number): Promise<Connection> {
    const connection = await transport.dial(address, { ...options, signal });
    dialled.push(connection);
    await connection.write([encodeHead({ group, count, index })]);
    return connection;
  }
  const dialling = Array.from({ length: count }, (_, index) => dial(index));
  try {
    const connections = await Promise.all(dialling);
    if (options.signal.aborted) throw abortReason(options.signal);
    return stripedConnection(connections);
  } catch (error) {
    others.abort(error);
    await Promise.allSettled(dialling);
    await Promise.all(dialled.map((connection) => connection.destroy(error as Error)));
    throw error;
  }
}
