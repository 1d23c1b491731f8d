import { createHash } from "node:crypto";
import type { Connection } from "../../../core/transport/transport.ts";
import { type BatchHeader, decodeBatch, type EncodedColumn, encodeBatch } from "../../../core/wire/batch.ts";
import { putU64 } from "../../../core/wire/bytes.ts";
import { encodeControl, Hello, Welcome } from "../../../core/wire/control.ts";
import { type Frame, FrameReader, frameHeader, preface } from "../../../core/wire/frame.ts";
import { CODEC, COLUMN, FRAME, OP, PREFACE_BYTES, SEGMENT } from "../../../core/wire/numbers.ts";
import { OpWriter } from "../../../core/wire/ops.ts";

export interface RawFrame {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** The frames of a recording, and where each begins. */
export function splitFrames(bytes: Buffer): (RawFrame & { readonly start: number })[] {
  const frames: (RawFrame & { start: number })[] = [];
  for (let start = PREFACE_BYTES; start < bytes.length; ) {
    const length = bytes.readUInt32LE(start);
    frames.push({ start, type: bytes.readUInt8(start + 4), payload: bytes.subarray(start + 20, start + 20 + length) });
    start += 20 + length;
  }
  return frames;
}

/** A recording of these frames, with right numbers and checksums. */
export function joinFrames(frames: readonly RawFrame[]): Buffer {
  const framed = frames.flatMap(({ type, payload }, i) => [frameHeader(type, i, [payload]), payload]);
  return Buffer.concat([preface(), ...framed]);
}

/** Decodes, changes and encodes a batch again; its columns have to be uncompressed. */
export function changeBatch(
  payload: Uint8Array,
  change: (batch: { header: { -readonly [K in keyof BatchHeader]: BatchHeader[K] }; columns: Buffer[] }) => void,
): Buffer {
  const { header, columns } = decodeBatch(Buffer.from(payload));
  const decoded: Buffer[] = [];
  for (const { column, codec, parts } of columns) {
    if (codec !== CODEC.NONE) throw new Error("the column is compressed");
    decoded[column] = Buffer.from(parts[0]!);
  }
  const batch = { header, columns: decoded };
  change(batch);
  return Buffer.concat(encodeBatch(batch.header, columnsOf(batch.columns)));
}

function columnsOf(columns: readonly (Uint8Array | undefined)[]): EncodedColumn[] {
  return [...columns.entries()].flatMap(([column, bytes]) =>
    bytes && bytes.length > 0 ? [{ column, codec: CODEC.NONE, length: bytes.length, parts: [bytes] }] : [],
  );
}

/** What a batch made by hand stands for; digests are of what it says, unless it says otherwise. */
export interface HandMade {
  readonly stream?: number;
  readonly first?: number;
  readonly forget?: number;
  readonly previous?: Uint8Array;
  /** `content` is OP.NEW with these bytes, or OP.KNOWN with their digest. */
  readonly ops: readonly (
    | { readonly literal: Uint8Array }
    | { readonly zero: number }
    | { readonly new: Uint8Array }
    | { readonly known: Uint8Array }
    | { readonly ref: number; readonly of: Uint8Array }
    | { readonly delta: number; readonly xor: Uint8Array; readonly of: Uint8Array }
  )[];
  readonly change?: (
    header: { -readonly [K in keyof BatchHeader]: BatchHeader[K] },
    columns: (Buffer | undefined)[],
  ) => void;
}

const sha256 = (...parts: Uint8Array[]) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** A BATCH payload, written as docs/wire-format.md says, and the stream's running digest after it. */
export function handMade({ stream = 1, first = 0, forget = 0, previous = Buffer.alloc(32), ops, change }: HandMade) {
  const writer = new OpWriter(ops.length + 1);
  writer.reset(first);
  const records: Buffer[] = [];
  const chunks: Buffer[] = [];
  const columns: Uint8Array[][] = Array.from({ length: 7 }, () => []);
  let plain = 0;
  let count = 0;
  const length = (tag: number, value: number) => {
    const record = Buffer.alloc(9, tag);
    putU64(record, value, 1);
    records.push(record);
  };
  for (const op of ops) {
    if ("literal" in op) {
      writer.literal(op.literal.length);
      length(SEGMENT.LITERAL, op.literal.length);
      columns[COLUMN.LITERALS]!.push(op.literal);
      plain += op.literal.length;
    } else if ("zero" in op) {
      writer.zero(op.zero);
      length(SEGMENT.ZERO, op.zero);
    } else {
      records.push(Buffer.of(SEGMENT.CHUNK));
      plain += 4096;
      if ("ref" in op) writer.ref(op.ref);
      else count++;
      if ("new" in op) {
        writer.content(OP.NEW);
        columns[COLUMN.CONTENTS]!.push(op.new);
        chunks.push(sha256(op.new));
      } else if ("known" in op) {
        writer.content(OP.KNOWN);
        columns[COLUMN.DIGESTS]!.push(sha256(op.known));
        chunks.push(sha256(op.known));
      } else {
        chunks.push(sha256(op.of));
        if ("delta" in op) {
          writer.delta(op.delta);
          columns[COLUMN.DELTAS]!.push(op.xor);
        }
      }
    }
  }
  writer.finish();
  columns[COLUMN.OPS]!.push(writer.ops);
  columns[COLUMN.ARGUMENTS]!.push(writer.args);
  const digest = sha256(previous, ...records, ...chunks, ...columns[COLUMN.LITERALS]!);
  const header = { stream, lane: 0, first, count, segments: records.length, plain, forget, digest };
  const whole: (Buffer | undefined)[] = columns.map((parts) => Buffer.concat(parts));
  change?.(header, whole);
  return { payload: Buffer.concat(encodeBatch(header, columnsOf(whole))), digest };
}

/** A peer made by hand: it sends any frame, and keeps those that it gets. */
export class HandPeer {
  readonly connection: Connection;
  readonly got: Frame[] = [];
  /** How the other end ended its direction: undefined, or with what. */
  readonly ended: Promise<Error | undefined>;
  readonly #reader: FrameReader;
  #sequence = 0;
  #wake = Promise.withResolvers<void>();
  #over = false;

  constructor(connection: Connection) {
    this.connection = connection;
    this.#reader = new FrameReader(connection.input, connection.peer);
    this.ended = this.#read().catch((error) => error);
    void this.ended.then(() => {
      this.#over = true;
      this.#wake.resolve();
    });
  }

  async open(): Promise<void> {
    await this.connection.write([preface()]);
  }

  async send(type: number, payload: Uint8Array = new Uint8Array(0)): Promise<void> {
    await this.connection.write([frameHeader(type, this.#sequence++, [payload]), payload]);
  }

  /** The next frame of this type that was not asked for yet. */
  async expect(type: number): Promise<Frame> {
    for (;;) {
      const at = this.got.findIndex((frame) => frame.type === type);
      if (at >= 0) return this.got.splice(at, 1)[0]!;
      if (this.#over) throw new Error(`no frame of type ${type} came`);
      await this.#wake.promise;
    }
  }

  async hello(change: Partial<Parameters<typeof encodeControl<typeof Hello>>[1]> = {}): Promise<void> {
    const hello = { session: Buffer.alloc(16, 7), domain: "test", window: 20, log: 1 << 20, software: "hand" };
    await this.open();
    await this.send(FRAME.HELLO, encodeControl(Hello, { ...hello, ...change }));
  }

  async welcome(session: Uint8Array, change: Partial<Parameters<typeof encodeControl<typeof Welcome>>[1]> = {}) {
    await this.open();
    await this.send(
      FRAME.WELCOME,
      encodeControl(Welcome, { session, window: 20, log: 1 << 20, software: "hand", ...change }),
    );
  }

  async #read(): Promise<undefined> {
    await this.#reader.preface();
    for (let frame = await this.#reader.next(); frame; frame = await this.#reader.next()) {
      this.got.push(frame);
      if (frame.type === FRAME.ABORT) await this.connection.end();
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    }
    return undefined;
  }
}
