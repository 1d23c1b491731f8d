/** Tunnels in this process: a session over a pair of connections, clients at one end of it and services at the other. */
import { acceptSession } from "../../../core/engine/destination-session.ts";
import { openSession, type SourceSession } from "../../../core/engine/source-session.ts";
import { countBytes } from "../../../core/transport/count.ts";
import type { Connection } from "../../../core/transport/transport.ts";
import { TunnelEntrance } from "../../../core/tunnel/entrance.ts";
import { exitTarget } from "../../../core/tunnel/exit.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { destinationOptions, type MemoryTarget, memoryTarget, sourceOptions, within } from "../../support/session.ts";

export const RETURNS = { window: 20, log: 4096 };

/** What a service does with a connection. One that rejects can't be reached. */
export type Service = (connection: Connection) => unknown;

export interface TunnelOptions {
  /** Dials instead of the services that are made here. */
  readonly dial?: () => Promise<Connection>;
  readonly allOrNothing?: boolean;
}

export interface Tunnel extends AsyncDisposable {
  readonly entrance: TunnelEntrance;
  readonly source: SourceSession;
  /** Where streams of the session go that belong to no connection. */
  readonly files: MemoryTarget;
  /** Bytes that the session has written in both directions. */
  wire(): number;
  /** Connects as a client does: its end, and what becomes of the connection. */
  connect(service: string, format?: string): { client: Connection; carried: Promise<void> };
  /** As `connect`, with the tunnel's end of a connection that was made elsewhere. */
  carry(connection: Connection, service: string, format?: string): Promise<void>;
}

/** Opens a tunnel; when it is disposed of, the session has to end in order. */
export async function openTunnel(services: Readonly<Record<string, Service>>, options: TunnelOptions = {}) {
  const { dial, allOrNothing = false } = options;
  const [near, far] = memoryPair();
  const counted = countBytes(near);
  const entrance = new TunnelEntrance();
  const dialler = (name: string) => {
    const service = services[name];
    if (!service) return dial;
    return async () => {
      const [here, there] = memoryPair(`memory:${name}`);
      await service(there);
      return here;
    };
  };
  let session: Awaited<ReturnType<typeof acceptSession>> | undefined;
  const files = memoryTarget();
  const exit = exitTarget({ services: dialler, sender: () => session?.sender, others: files });
  const accepting = acceptSession(far, { ...destinationOptions, target: exit, returns: RETURNS, allOrNothing });
  const source = await openSession(counted, { ...sourceOptions, returns: RETURNS, target: entrance.target });
  session = await accepting;
  const ran = session.run().then(
    () => undefined,
    (error) => error as Error,
  );
  let aborted = false;
  const carry = (connection: Connection, service: string, format = "bytes") =>
    entrance.carry(source.sender, connection, { service, format });
  const tunnel: Tunnel & { abort(error: Error): Promise<Error | undefined> } = {
    entrance,
    source,
    files,
    wire: () => counted.bytesIn + counted.bytesOut,
    carry,
    connect(service, format) {
      const [client, local] = memoryPair("memory:client");
      const carried = carry(local, service, format);
      carried.catch(() => {});
      return { client, carried };
    },
    /** Ends the session with an error; resolves with what the destination's end was ended by. */
    async abort(error) {
      aborted = true;
      await within(source.abort(error), "abort");
      return within(ran, "destination");
    },
    async [Symbol.asyncDispose]() {
      if (aborted) return;
      await within(source.finish(0), "end of the session");
      const error = await within(ran, "destination");
      if (error) throw error;
    },
  };
  return tunnel;
}

/** All that a connection gives, to its end. */
export async function readAll({ input }: Connection): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of input) parts.push(piece);
  return Buffer.concat(parts);
}

/** What ends a connection's input: an error, or nothing. */
export const endOf = (connection: Connection): Promise<Error | undefined> =>
  readAll(connection).then(
    () => undefined,
    (error) => error as Error,
  );
