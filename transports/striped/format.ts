import { crc32 } from "node:zlib";
import { ProtocolError } from "../../core/errors.ts";

/** The bytes that several connections add to those of a session; docs/wire-format.md describes them. Integers are little-endian. */

/** First bytes of each connection of a group, from who dials: as those of a session, but for the fifth. */
export const GROUP_MAGIC = Uint8Array.of(0x89, 0x53, 0x48, 0x52, 0x53, 0x0d, 0x0a, 0x1a);
const VERSION = 1;
/** Magic, u8 version, u8 connections, u8 which of them, u8 zero, 16 bytes that name the group, u32 CRC-32 of the 28 bytes before. */
export const HEAD_BYTES = 32;
export const GROUP_BYTES = 16;
export const MIN_CONNECTIONS = 2;
export const MAX_CONNECTIONS = 16;

/** u32 length, u32 number. */
export const SEGMENT_HEADER_BYTES = 8;
/** No segment is longer. */
export const MAX_SEGMENT = 1 << 20;

/** What a connection of a group says of itself. */
export interface GroupHead {
  /** Names the group: random, so that nobody else's is the same. */
  readonly group: Uint8Array;
  /** How many connections it has, 2 to 16. */
  readonly count: number;
  /** Which of them this is, from 0. */
  readonly index: number;
}

export function encodeHead({ group, count, index }: GroupHead): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.set(GROUP_MAGIC);
  head.set([VERSION, count, index], GROUP_MAGIC.length);
  head.set(group, 12);
  head.writeUInt32LE(crc32(head.subarray(0, 28)), 28);
  return head;
}

/** Reads a head of `HEAD_BYTES` that begins with the magic. Throws a `ProtocolError`. */
export function decodeHead(bytes: Buffer): GroupHead {
  if (bytes.readUInt32LE(28) !== crc32(bytes.subarray(0, 28)))
    throw new ProtocolError("The head of a group of connections is damaged");
  const [version, count, index, zero] = bytes.subarray(GROUP_MAGIC.length, 12) as unknown as number[];
  if (version !== VERSION)
    throw new ProtocolError(`A group of connections has version ${version}; this program reads version ${VERSION}`);
  if (count! < MIN_CONNECTIONS || count! > MAX_CONNECTIONS || index! >= count! || zero !== 0)
    throw new ProtocolError(`A connection says to be number ${index} of ${count}`);
  return { group: Buffer.from(bytes.subarray(12, 28)), count: count!, index: index! };
}

/**
 * @param length bytes of the segment; 0 ends the direction
 * @param number counts the segments of a direction over all of its connections; of an end, how many there were
 */
export function writeSegmentHeader(into: Buffer, length: number, number: number): void {
  into.writeUInt32LE(length, 0);
  into.writeUInt32LE(number, 4);
}

/** How far a number lies behind another: they go on with 0 after 2^32 - 1. */
export function distance(from: number, to: number): number {
  return (to - from) | 0;
}
