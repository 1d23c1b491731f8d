import { Packr, Unpackr } from "msgpackr";
import * as v from "valibot";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { ERROR_CODES, ProtocolError } from "../errors.ts";
import { getU64, printable, putU64 } from "./bytes.ts";
import { MAX_WINDOW_LOG, MIN_WINDOW_LOG } from "./numbers.ts";

/** Control frames: MessagePack maps, rare and small. What a peer sends is checked against these before it is used. */

const number = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const u32 = v.pipe(number, v.maxValue(0xffff_ffff));
const shortText = v.pipe(v.string(), v.maxLength(256));
const message = v.pipe(v.string(), v.maxLength(2000));
const bytes = (length: number) =>
  v.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === length, `expected ${length} bytes`);
const windowLog = v.pipe(number, v.minValue(MIN_WINDOW_LOG), v.maxValue(MAX_WINDOW_LOG));
const code = v.picklist(ERROR_CODES);

export const Hello = v.object({
  /** Random; names the session. */
  session: bytes(16),
  /** The tenant whose contents may meet. */
  domain: v.pipe(shortText, v.nonEmpty()),
  /** Binary logarithm of the largest window that the sender will use. */
  window: windowLog,
  /** How many of the last contents a REF or DELTA may name. */
  log: v.pipe(number, v.minValue(1)),
  /** The program and its version, for messages. */
  software: shortText,
});

export const Welcome = v.object({
  session: bytes(16),
  /** At most what HELLO said; from now on in force. */
  window: windowLog,
  log: v.pipe(number, v.minValue(1)),
  software: shortText,
});

export const Open = v.object({
  stream: u32,
  name: v.pipe(shortText, v.nonEmpty()),
  format: v.pipe(v.string(), v.maxLength(32)),
  size: v.optional(number),
  mode: v.optional(v.pipe(number, v.maxValue(0o7777))),
  mtime: v.optional(v.pipe(v.number(), v.finite())),
});

export const Close = v.object({
  stream: u32,
  /** Plain bytes in all. */
  length: number,
  /** The running digest after the last batch. */
  digest: bytes(DIGEST_SIZE),
  /** SHA-256 of the plain bytes, of a file. */
  sha256: v.optional(bytes(DIGEST_SIZE)),
});

export const Reset = v.object({ stream: u32, code, message });
export const Landed = v.object({ stream: u32 });
export const Abort = v.object({ code, message });
export const Done = v.object({ streams: u32 });

/** Bytes of a schema's message that are shown. */
const MAX_REASON = 200;

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

/** Encodes a control frame's payload. */
export function encodeControl<S extends v.GenericSchema>(_schema: S, value: v.InferInput<S>): Buffer {
  return packr.pack(value);
}

/** Decodes and checks a control frame's payload. Throws a `ProtocolError` that names the field. */
export function decodeControl<S extends v.GenericSchema>(schema: S, payload: Uint8Array): v.InferOutput<S> {
  // A map, and none of the library's extensions of MessagePack, which can stand for objects as well.
  const first = payload[0] ?? 0;
  if (first >> 4 !== 8 && first !== 0xde && first !== 0xdf) {
    throw new ProtocolError("A control frame is not a MessagePack map");
  }
  let value: unknown;
  try {
    value = unpackr.unpack(payload);
  } catch (error) {
    throw new ProtocolError("A control frame is not valid MessagePack", { cause: error });
  }
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  // The message quotes what came.
  const why = printable(Buffer.from(issue.message), MAX_REASON);
  throw new ProtocolError(`A control frame has a bad ${v.getDotPath(issue) ?? "payload"}: ${why}`);
}

/** CREDIT: u32 stream, u64 cost that the stream's batches may have in all. */
export function encodeCredit(stream: number, total: number): Buffer {
  const payload = Buffer.alloc(12);
  payload.writeUInt32LE(stream);
  putU64(payload, total, 4);
  return payload;
}

export function decodeCredit(payload: Buffer): { stream: number; total: number } {
  if (payload.length !== 12) throw new ProtocolError("A CREDIT frame has a wrong length");
  return { stream: payload.readUInt32LE(0), total: getU64(payload, 4) };
}

/** WANT and RESOLVED: u64 content number. */
export function encodeNumber(value: number): Buffer {
  const payload = Buffer.alloc(8);
  putU64(payload, value, 0);
  return payload;
}

export function decodeNumber(payload: Buffer): number {
  if (payload.length !== 8) throw new ProtocolError("A WANT or RESOLVED frame has a wrong length");
  return getU64(payload, 0);
}

/** CONTENT: u64 content number, and its 4096 bytes. */
export function decodeContent(payload: Buffer): { number: number; page: Buffer } {
  if (payload.length !== 8 + PAGE_SIZE) throw new ProtocolError("A CONTENT frame has a wrong length");
  return { number: getU64(payload, 0), page: payload.subarray(8) };
}
