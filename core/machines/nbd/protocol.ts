/**
 * Numbers and encodings of the NBD protocol: fixed newstyle negotiation, structured replies and metadata contexts, as far as
 * a client needs them that reads. Integers are big-endian. Source: "The NBD protocol", doc/proto.md of the Network Block
 * Device project (NetworkBlockDevice/nbd).
 */
import { ProtocolError } from "../../errors.ts";

export const GREETING_MAGIC = 0x4e42_444d_4147_4943n; // "NBDMAGIC"
export const OPTION_MAGIC = 0x4948_4156_454f_5054n; // "IHAVEOPT"
export const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9n;
const REQUEST_MAGIC = 0x2560_9513;
export const SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const CHUNK_MAGIC = 0x668e_33ef;

/** Flags of the greeting and of its answer. */
export const FIXED_NEWSTYLE = 1 << 0;
export const NO_ZEROES = 1 << 1;

export const OPTION = { GO: 7, STRUCTURED_REPLY: 8, SET_META_CONTEXT: 10 } as const;
export const OPTION_REPLY = { ACK: 1, INFO: 3, META_CONTEXT: 4 } as const;
/** Types of replies to options from here on are errors. */
export const OPTION_ERROR = 2 ** 31;
export const INFO_EXPORT = 0;
/** Of an export: it answers a read that asks for it with one chunk. */
export const CAN_SEND_WHOLE = 1 << 7;

export const COMMAND = { READ: 0, DISCONNECT: 2, BLOCK_STATUS: 7 } as const;
/** Of a read: answer with one chunk ("don't fragment"). */
export const SEND_WHOLE = 1 << 2;

/** Of a chunk: it is the reply's last. */
export const CHUNK_DONE = 1 << 0;
export const CHUNK = { NONE: 0, DATA: 1, HOLE: 2, BLOCK_STATUS: 5 } as const;
/** Types of chunks from here on are errors. */
export const CHUNK_ERROR = 2 ** 15;

/** The context that tells holes, and its flag for what reads as zeros. */
export const ALLOCATION = "base:allocation";
const STATE_ZERO = 1 << 1;

export const OPTION_REPLY_HEADER = 20;
const REQUEST_HEADER = 28;
/** Both sorts of replies begin with as much; a chunk's length follows. */
export const REPLY_HEADER = 16;
export const CHUNK_LENGTH = 4;
export const DATA_HEADER = 8;
export const HOLE_HEADER = 12;

/** `data` of an option that the client sends. */
export function encodeOption(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

function counted(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Data of `SET_META_CONTEXT`: one context of an export. */
export function encodeContext(name: string, context: string): Buffer {
  return Buffer.concat([counted(name), Buffer.from([0, 0, 0, 1]), counted(context)]);
}

/** Data of `GO`: the export, and no further information asked for. */
export function encodeGo(name: string): Buffer {
  return Buffer.concat([counted(name), Buffer.alloc(2)]);
}

/** @param handle less than 2^32; the reply carries it */
export function encodeRequest(command: number, flags: number, handle: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(REQUEST_HEADER);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeUInt32BE(handle, 12);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** A part of an export that is alike: holes read as zeros. */
export interface Extent {
  readonly length: number;
  readonly zeros: boolean;
}

/**
 * The extents in a chunk of block status, adjacent ones of a kind joined. Throws a `ProtocolError` where they are empty, or
 * longer than `most` in all.
 * @param payload the context's number, and 8 bytes an extent
 */
export function decodeExtents(payload: Buffer, context: number, most: number): Extent[] {
  if (payload.readUInt32BE(0) !== context) throw new ProtocolError("it tells of a context that was not asked for");
  const extents: { length: number; zeros: boolean }[] = [];
  let total = 0;
  for (let at = 4; at < payload.length; at += 8) {
    const length = payload.readUInt32BE(at);
    const zeros = (payload.readUInt32BE(at + 4) & STATE_ZERO) !== 0;
    total += length;
    if (length === 0 || total > most) throw new ProtocolError("its extents are empty, or go beyond the disk's end");
    const last = extents.at(-1);
    if (last?.zeros === zeros) last.length += length;
    else extents.push({ length, zeros });
  }
  return extents;
}

const MEANINGS: Record<number, string> = {
  1: "operation not permitted",
  5: "input/output error",
  12: "out of memory",
  22: "invalid argument",
  28: "no space left",
  75: "the answer is too long",
  95: "not supported",
  108: "the server is shutting down",
};

/** What an error number of a reply means. */
export const describeError = (number: number): string => MEANINGS[number] ?? `error ${number}`;
