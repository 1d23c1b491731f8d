import { LinkError } from "../../core/errors.ts";
import type { Connection, Listener } from "../../core/transport/transport.ts";
import { acceptQueue } from "../accept.ts";
import { MAX_STRANGERS, Strangers } from "../strangers.ts";
import { stripedConnection } from "./connection.ts";
import { decodeHead, GROUP_MAGIC, type GroupHead, HEAD_BYTES } from "./format.ts";

export interface GatherLimits {
  /** Connections that have not said their first bytes; the oldest is dropped for another. */
  readonly strangers: number;
  /** Connections of groups that are not complete; the oldest group is dropped for another. */
  readonly gathered: number;
  /** Milliseconds that a connection gets to say its first bytes, and a group to become complete. */
  readonly ms: number;
}

export const GATHER_LIMITS: GatherLimits = { strangers: MAX_STRANGERS, gathered: 128, ms: 15_000 };

interface Group {
  /** By their numbers; empty where one has not come. */
  readonly connections: (Connection | undefined)[];
  size: number;
  readonly timer: ReturnType<typeof setTimeout>;
}

/**
 * Gives out each group of connections that belong together as one, once it is complete, and any other connection as it is, once
 * it has said something. A group is of one peer: what another one says of the same group is a group of its own.
 */
export function gather(inner: Listener, limits: GatherLimits = GATHER_LIMITS): Listener {
  const accepted = acceptQueue();
  const strangers = new Strangers<Connection>(
    (one) => void one.destroy(new LinkError(`${one.peer} did not say anything in time`)),
    limits.strangers,
  );
  const groups = new Map<string, Group>();
  let gathered = 0;

  async function meet(connection: Connection): Promise<void> {
    strangers.add(connection);
    const timer = setTimeout(() => strangers.drop(connection), limits.ms);
    try {
      const met = await introduce(connection);
      if (!strangers.release(connection)) return;
      if (met.head) join(met.connection, met.head);
      else accepted.offer(met.connection);
    } catch (error) {
      await connection.destroy(error as Error);
    } finally {
      clearTimeout(timer);
      strangers.release(connection);
    }
  }

  function join(connection: Connection, { group: id, count, index }: GroupHead): void {
    const name = `${count} ${Buffer.from(id).toString("hex")} ${connection.identity?.key ?? ""}`;
    const group = groups.get(name) ?? open(name, count);
    if (group.connections[index]) return void connection.destroy(new LinkError(`Connection ${index} has come twice`));
    group.connections[index] = connection;
    group.size++;
    gathered++;
    if (group.size === count) {
      close(name, group);
      accepted.offer(stripedConnection(group.connections as Connection[]));
    } else if (gathered > limits.gathered)
      for (const [oldest, { connections }] of groups) {
        drop(oldest, `${connections.length} connections of a group are too many for now`);
        break;
      }
  }

  function open(name: string, count: number): Group {
    const late = () => drop(name, `Of ${count} connections not all came within ${limits.ms / 1000} s`);
    const group = {
      connections: Array.from({ length: count }, () => undefined),
      size: 0,
      timer: setTimeout(late, limits.ms),
    };
    groups.set(name, group);
    return group;
  }

  function close(name: string, group: Group): void {
    clearTimeout(group.timer);
    groups.delete(name);
    gathered -= group.size;
  }

  function drop(name: string, why: string): void {
    const group = groups.get(name)!;
    close(name, group);
    for (const connection of group.connections) void connection?.destroy(new LinkError(why));
  }

  async function serve(): Promise<void> {
    for (let next = await inner.accept(); next; next = await inner.accept()) void meet(next);
    end();
  }

  /** Nobody takes what comes together from now on. */
  function end(error?: Error): void {
    accepted.close(error);
    for (const stranger of strangers) strangers.drop(stranger);
    for (const name of groups.keys()) drop(name, "The listener was closed");
  }

  serve().catch(end);
  return {
    address: inner.address,
    carrier: inner.carrier,
    accept: accepted.accept,
    async close() {
      await inner.close();
      end();
    },
  };
}

/** Reads a connection's first bytes; the connection that is given back still has them, unless they are the head of a group. */
async function introduce(connection: Connection): Promise<{ connection: Connection; head?: GroupHead }> {
  const input = connection.input[Symbol.asyncIterator]();
  let bytes = Buffer.alloc(0);
  while (bytes.length < HEAD_BYTES) {
    const next = await input.next();
    if (next.done) return { connection: withInput(connection, bytes, input) };
    bytes = bytes.length === 0 ? Buffer.from(next.value) : Buffer.concat([bytes, next.value]);
    const known = Math.min(bytes.length, GROUP_MAGIC.length);
    if (Buffer.compare(bytes.subarray(0, known), GROUP_MAGIC.subarray(0, known)) !== 0)
      return { connection: withInput(connection, bytes, input) };
  }
  const head = decodeHead(bytes);
  return { connection: withInput(connection, bytes.subarray(HEAD_BYTES), input), head };
}

function withInput(connection: Connection, first: Uint8Array, rest: AsyncIterator<Uint8Array>): Connection {
  return { ...connection, input: continued(first, rest) };
}

async function* continued(first: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (first.length > 0) yield first;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}
