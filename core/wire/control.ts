import * as v from "valibot";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { ERROR_CODES, ProtocolError } from "../errors.ts";
import { getU64, putU64 } from "./bytes.ts";
import { bytes, decodeMap, encodeMap, number, text } from "./map.ts";
import {
  MAX_NAMED_RECIPIENTS,
  MAX_PAST_LOGS,
  MAX_SUMMARY,
  MAX_WINDOW_LOG,
  MIN_WINDOW_LOG,
  SECRET_BYTES,
  SIGNATURE_BYTES,
  SUMMARY_PIECE,
} from "./numbers.ts";

/** Control frames: MessagePack maps, rare and small. What a peer sends is checked against these before it is used. */

/** Seeds that an index may list. */
export const MAX_SEEDS = 1024;

const u32 = v.pipe(number, v.maxValue(0xffff_ffff));
const shortText = text(256);
const message = text(2000);
const windowLog = v.pipe(number, v.minValue(MIN_WINDOW_LOG), v.maxValue(MAX_WINDOW_LOG));
const code = v.picklist(ERROR_CODES);
/** A public key as a word: `p256:` and the compressed point in base64url. */
const publicKey = v.pipe(v.string(), v.regex(/^p256:[A-Za-z0-9_-]{44}$/));

/** A direction's window, as a binary logarithm, and how many of its last contents may be referred to. */
const direction = v.object({ window: windowLog, log: v.pipe(number, v.minValue(1)) });

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
  /** Of a source that takes streams in return: the largest window, and the longest log, of these. */
  returns: v.optional(direction),
  /** Of a recording that leaves out what a site holds: the site, and the index that said so. */
  against: v.optional(
    v.object({
      index: bytes(DIGEST_SIZE),
      site: v.optional(bytes(16)),
      generation: v.optional(bytes(16)),
      seeds: v.pipe(v.array(v.object({ name: shortText, size: number })), v.maxLength(MAX_SEEDS)),
    }),
  ),
  /** Of a recording that ends in SIGNATURE. */
  signed: v.optional(
    v.object({
      /** Who signs. */
      key: publicKey,
      /** SHA-256 of each recipient to whom it is encrypted, as text. */
      recipients: v.pipe(v.array(bytes(DIGEST_SIZE)), v.maxLength(MAX_NAMED_RECIPIENTS)),
    }),
  ),
  /** The secret with which the source would go on over another connection; of a source that could dial one. */
  resume: v.optional(bytes(SECRET_BYTES)),
});

export const Welcome = v.object({
  session: bytes(16),
  /** At most what HELLO said; from now on in force. */
  window: windowLog,
  log: v.pipe(number, v.minValue(1)),
  software: shortText,
  /** Of a destination that opens streams in return: at most what HELLO said. */
  returns: v.optional(direction),
  /** What the destination holds from elsewhere. */
  site: v.optional(
    v.object({
      id: bytes(16),
      /** Changes when contents are removed. */
      generation: bytes(16),
      /** How many contents, about. */
      contents: number,
      /** Logs of earlier sessions, the latest first: PAST counts through them. */
      logs: v.pipe(v.array(v.object({ session: bytes(16), length: u32 })), v.maxLength(MAX_PAST_LOGS)),
    }),
  ),
  /** The destination keeps the session when its connection breaks. */
  resume: v.optional(v.boolean()),
});

/** `received`: the number of the first frame that the one who says it has not received. */
export const Resume = v.object({ session: bytes(16), secret: bytes(SECRET_BYTES), received: u32 });
export const Resumed = v.object({ received: u32 });

/** Asks for a summary with so many bits of fingerprint a content. */
export const Summarize = v.object({ bits: v.picklist([8, 16]) });

export const Open = v.object({
  stream: u32,
  name: v.pipe(shortText, v.nonEmpty()),
  format: v.pipe(v.string(), v.maxLength(32)),
  size: v.optional(number),
  mode: v.optional(v.pipe(number, v.maxValue(0o7777))),
  mtime: v.optional(v.pipe(v.number(), v.finite())),
  /** Of a stream that is one direction of a connection: the connection's number, alike in both directions. */
  connection: v.optional(u32),
  /** What the connection is to be made to; in the source's direction only. */
  service: v.optional(v.pipe(shortText, v.nonEmpty())),
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
export const Signature = v.object({ key: publicKey, signature: bytes(SIGNATURE_BYTES) });

export type Against = NonNullable<v.InferOutput<typeof Hello>["against"]>;
export type Signed = NonNullable<v.InferOutput<typeof Hello>["signed"]>;
export type SiteInfo = NonNullable<v.InferOutput<typeof Welcome>["site"]>;

/** Encodes a control frame's payload. */
export function encodeControl<S extends v.GenericSchema>(schema: S, value: v.InferInput<S>): Buffer {
  return encodeMap(schema, value);
}

/** Decodes and checks a control frame's payload. Throws a `ProtocolError` that names the field. */
export function decodeControl<S extends v.GenericSchema>(schema: S, payload: Uint8Array): v.InferOutput<S> {
  return decodeMap(schema, payload, "A control frame");
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

const SUMMARY_HEAD = 8;

/** SUMMARY: u32 length of the whole summary, u32 offset, and the bytes from there on; in parts. */
export function encodeSummaryPiece(total: number, offset: number, bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(SUMMARY_HEAD);
  head.writeUInt32LE(total, 0);
  head.writeUInt32LE(offset, 4);
  return Buffer.concat([head, bytes]);
}

/** Throws a `ProtocolError` for a piece that can't be one, or is not the one that is due. */
export function decodeSummaryPiece(payload: Buffer, due: number): { total: number; bytes: Buffer } {
  const total = payload.length > SUMMARY_HEAD ? payload.readUInt32LE(0) : 0;
  const bytes = payload.subarray(SUMMARY_HEAD);
  const wrong =
    total === 0 ||
    total > MAX_SUMMARY ||
    bytes.length > SUMMARY_PIECE ||
    payload.readUInt32LE(4) !== due ||
    due + bytes.length > total;
  if (wrong) throw new ProtocolError("A SUMMARY frame is none, or not the one that is due");
  return { total, bytes };
}
