/** A destination in this process that keeps sessions, and a network to it whose connections a test spoils. */

import { acceptSession } from "../../core/engine/destination-session.ts";
import type { LinkTimes } from "../../core/engine/link-times.ts";
import type { ReceivedStream } from "../../core/engine/received-streams.ts";
import { ResumableSessions, ResumedSession } from "../../core/engine/resumable.ts";
import { LinkError } from "../../core/errors.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { memoryPair } from "../../transports/memory.ts";
import { type Fault, faulty } from "./faults.ts";
import { destinationOptions, type MemoryTarget, memoryTarget, type Receiving, within } from "./session.ts";

/** Faults of one connection: `up` to the destination, `down` to the source. */
export interface Faults {
  readonly up?: readonly Fault[];
  readonly down?: readonly Fault[];
}

export interface NetworkOptions {
  readonly target?: MemoryTarget;
  readonly receiving?: Receiving;
  /** By the connection's number, from 0; undefined where it can't be made at all. */
  readonly faults?: (number: number) => Faults | undefined;
  /** Makes a connection; both its ends. */
  readonly connect?: () => Promise<readonly [Connection, Connection]>;
}

export interface Network {
  readonly files: MemoryTarget;
  readonly resumables: ResumableSessions;
  /** Connections so far. */
  readonly connections: number;
  /** What became of the sessions that were accepted. */
  readonly sessions: readonly Promise<ReceivedStream[]>[];
  /** Why other connections came to nothing. */
  readonly strangers: readonly Error[];
  dial(): Promise<Connection>;
  /** Accepts a connection that somebody else has made. */
  accept(far: Connection): void;
}

/** Times for tests: a second for an outage, without a pause before the first attempts. */
export const quick: LinkTimes = {
  handshake: 500,
  ping: 40,
  dead: 400,
  farewell: 100,
  resume: 1000,
  backOff: [0, 0, 0, 5, 5, 10, 20],
};

export function network({ target, receiving, faults, connect }: NetworkOptions = {}): Network {
  const files = target ?? memoryTarget();
  const resumables = new ResumableSessions();
  const sessions: Promise<ReceivedStream[]>[] = [];
  const strangers: Error[] = [];
  let connections = 0;

  function accept(far: Connection): void {
    const options = { ...destinationOptions, times: quick, target: files, resumables, ...receiving };
    const begin = async () => {
      const session = await acceptSession(far, options);
      const running = session.run();
      running.catch(() => {});
      sessions.push(running);
    };
    begin().catch((error) => {
      if (!(error instanceof ResumedSession)) strangers.push(error);
    });
  }
  return {
    files,
    resumables,
    sessions,
    strangers,
    get connections() {
      return connections;
    },
    accept,
    async dial() {
      const number = connections++;
      const spoiled = faults ? faults(number) : {};
      if (spoiled === undefined) throw new LinkError("There is no way to the destination");
      const [near, far] = connect ? await connect() : memoryPair();
      accept(far);
      const { up, down } = spoiled;
      return up || down ? faulty(near, { output: up ?? [], input: down ?? [] }) : near;
    },
  };
}

/** The only session that a network has seen, once it is over. */
export async function onlySession({ sessions }: Network): Promise<ReceivedStream[]> {
  if (sessions.length !== 1) throw new Error(`${sessions.length} sessions instead of one`);
  return within(sessions[0]!, "destination");
}
