/** Whole sessions in this process: sources, a destination in memory, and the two ends over a pair of connections. */
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import type { ContentBroker } from "../../core/engine/broker.ts";
import { fixedCodec } from "../../core/engine/codec-policy.ts";
import {
  acceptSession,
  type DestinationOptions,
  type DestinationSession,
} from "../../core/engine/destination-session.ts";
import { sendAll } from "../../core/engine/migration.ts";
import { openSession, type SourceOptions, type SourceSession } from "../../core/engine/source-session.ts";
import type { SiteIndex } from "../../core/index/site-index.ts";
import type { Piece, StreamInfo, StreamSink, StreamSource, StreamTarget } from "../../core/machines/machine.ts";
import { nothingHere } from "../../core/site/nothing.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { memoryPair } from "../../transports/memory.ts";

const never = new AbortController().signal;
const common = {
  domain: "test",
  windowLog: 20,
  logLimit: 1 << 20,
  software: "test",
  spoolDir: tmpdir(),
  signal: never,
};

export const sourceOptions: SourceOptions = { ...common, codec: fixedCodec("zstd") };
export const destinationOptions: Omit<DestinationOptions, "target"> = {
  ...common,
  allOrNothing: false,
  openSite: siteOf([]),
};

/** What an index says a destination holds, as a source is told. */
export function known(index: SiteIndex): NonNullable<SourceOptions["site"]> {
  return { index, past: undefined };
}

/** A destination that finds contents at these brokers, and keeps nothing. */
export function siteOf(brokers: readonly ContentBroker[]): DestinationOptions["openSite"] {
  return async () => ({ ...(await nothingHere(undefined)), brokers });
}

/** Rejects where `promise` has not settled in time: a test names what hangs instead of hanging itself. */
export async function within<T>(promise: Promise<T>, what = "session", ms = 10_000): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the ${what} hangs`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A stream in these pieces; a number is a hole of that length. Buffers that the engine gives back are overwritten. */
export function source(
  name: string,
  format: string,
  pieces: Iterable<Uint8Array | number> | AsyncIterable<Uint8Array | number>,
): StreamSource {
  const sha256 = createHash("sha256");
  return {
    info: { name, format },
    async *pieces(signal): AsyncGenerator<Piece> {
      for await (const piece of pieces) {
        signal.throwIfAborted();
        if (typeof piece === "number") {
          sha256.update(Buffer.alloc(piece));
          yield { zeros: piece };
        } else {
          sha256.update(piece);
          const bytes = new Uint8Array(piece);
          yield { bytes, release: () => void bytes.fill(0xee) };
        }
      }
    },
    plainDigest: async () => sha256.digest(),
  };
}

/** What a destination was given for one stream. */
export interface Received {
  readonly info: StreamInfo;
  readonly bytes: Buffer;
  /** What ended the sink: exactly one of them. */
  readonly ends: readonly ("commit" | "abort")[];
}

export interface MemoryTarget extends StreamTarget {
  /** Every sink that was opened, in that order. */
  readonly all: readonly Received[];
  get(name: string): Received;
}

/** Keeps what arrives. @param behave replaces parts of a stream's sink, to make it fail or wait */
export function memoryTarget(
  behave: (info: StreamInfo) => Partial<StreamSink> | Promise<never> = () => ({}),
): MemoryTarget {
  const all: Received[] = [];
  return {
    all,
    get: (name) => all.find(({ info }) => info.name === name)!,
    async open(info) {
      const behaviour = await behave(info);
      const parts: Uint8Array[] = [];
      const ends: ("commit" | "abort")[] = [];
      all.push({
        info,
        ends,
        get bytes() {
          return Buffer.concat(parts);
        },
      });
      return {
        async write(piece) {
          await behaviour.write?.(piece);
          parts.push(new Uint8Array(piece.bytes));
          piece.release?.();
        },
        async zeros(length) {
          await behaviour.zeros?.(length);
          parts.push(new Uint8Array(length));
        },
        finish: async () => behaviour.finish?.(),
        plainDigest: async () => createHash("sha256").update(Buffer.concat(parts)).digest(),
        async commit() {
          await behaviour.commit?.();
          ends.push("commit");
        },
        async abort() {
          ends.push("abort");
          await behaviour.abort?.();
        },
      };
    },
  };
}

export type Sending = Partial<SourceOptions> & { readonly parallel?: number };
export type Receiving = Partial<DestinationOptions>;

/** Runs the source's end; a failure is told to the destination. */
export async function send(connection: Connection, sources: readonly StreamSource[], options: Sending = {}) {
  const { parallel = 1, ...rest } = options;
  const session: SourceSession = await openSession(connection, { ...sourceOptions, ...rest });
  const { sender } = session;
  const signal = options.signal ?? never;
  try {
    const outcomes = await sendAll(session, sources, connection.duplex, { parallel, signal });
    return { outcomes, counters: sender.counters, session };
  } catch (error) {
    await session.abort(error as Error);
    throw error;
  }
}

/** Runs the destination's end. */
export async function receive(connection: Connection, target: StreamTarget, options: Receiving = {}) {
  const session: DestinationSession = await acceptSession(connection, { ...destinationOptions, target, ...options });
  const streams = await session.run();
  return { streams, counters: session.receiver.counters, session };
}

export interface Ends {
  readonly sending?: Sending;
  readonly receiving?: Receiving;
  readonly target?: MemoryTarget;
  /** The source's and the destination's connection. */
  readonly pair?: readonly [Connection, Connection];
}

/** Runs both ends until both have settled. */
export async function migrateBoth(sources: readonly StreamSource[], { sending, receiving, target, pair }: Ends = {}) {
  const [near, far] = pair ?? memoryPair();
  const files = target ?? memoryTarget();
  const both = Promise.allSettled([send(near, sources, sending), receive(far, files, receiving)]);
  const [sent, received] = await within(both);
  return { sent, received, files };
}

/** Runs both ends; throws where either fails. */
export async function migrate(sources: readonly StreamSource[], ends: Ends = {}) {
  const { sent, received, files } = await migrateBoth(sources, ends);
  if (sent.status === "rejected") throw sent.reason;
  if (received.status === "rejected") throw received.reason;
  return { sent: sent.value, received: received.value, files };
}

/** A connection that records what is written to it. */
export function recorder(): { connection: Connection; bytes(): Buffer; readonly ended: boolean } {
  const parts: Uint8Array[] = [];
  let ended = false;
  let failure: Error | undefined;
  return {
    connection: {
      peer: "file:test",
      duplex: false,
      input: (async function* () {})(),
      async write(buffers) {
        if (failure) throw failure;
        for (const buffer of buffers) parts.push(new Uint8Array(buffer));
      },
      async end() {
        if (failure) throw failure;
        ended = true;
      },
      async destroy(reason = new Error("dropped")) {
        failure ??= reason;
      },
    },
    bytes: () => Buffer.concat(parts),
    get ended() {
      return ended;
    },
  };
}

/** Records a session; throws where it can't be complete. */
export async function record(sources: readonly StreamSource[], options: Sending = {}): Promise<Buffer> {
  const tape = recorder();
  await within(send(tape.connection, sources, options), "recording");
  if (!tape.ended) throw new Error("the recording was not ended");
  return tape.bytes();
}

/** A connection that gives recorded bytes, in pieces of the given size. */
export function player(bytes: Uint8Array, pieceBytes = 65_536): Connection {
  let failure: Error | undefined;
  return {
    peer: "file:test",
    duplex: false,
    input: (async function* () {
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        if (failure) throw failure;
        yield bytes.slice(at, at + pieceBytes);
      }
      if (failure) throw failure;
    })(),
    async write() {
      throw new Error("it is only read");
    },
    async end() {},
    async destroy(reason = new Error("dropped")) {
      failure ??= reason;
    },
  };
}

/** Receives a recorded session. */
export function replay(bytes: Uint8Array, target: StreamTarget = memoryTarget(), options: Receiving = {}) {
  return within(receive(player(bytes), target, options), "replay");
}
