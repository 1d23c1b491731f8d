import { promisify } from "node:util";
import { crc32, constants as zlib, zstdCompress } from "node:zlib";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import type { PageWorker } from "../content/page-worker.ts";

/**
 * A pack is a sequence of groups: contents that arrived together, compressed together, behind their digests
 * (docs/store-format.md). A group stands by itself: it says how long it is, and both of its parts have checksums, so a pack
 * is read from its beginning up to the first group that was not written whole.
 */
export const GROUP_HEADER = 24;
const MAGIC = 0x50_52_47_53; // "SGRP"
/** Contents in a group as it arrives: 1 MiB. */
export const GROUP_CONTENTS = 256;
/** No group has more; a repack makes larger ones than what arrives. */
export const MAX_GROUP_CONTENTS = 1024;

/** In one piece: the runtimes put several together by copying. */
const ONE_CHUNK = 1 << 20;

const CODEC = { NONE: 0, ZSTD: 1 } as const;

const compress = promisify(zstdCompress) as (
  bytes: Uint8Array,
  options: { params: Record<number, number>; chunkSize: number },
) => Promise<Buffer>;
export interface GroupHeader {
  /** Contents. */
  readonly count: number;
  readonly codec: number;
  /** Bytes of the contents as they are stored, behind the digests. */
  readonly stored: number;
  readonly checksum: number;
  readonly headChecksum: number;
}

/** Bytes of a whole group. */
export function groupLength({ count, stored }: GroupHeader): number {
  return GROUP_HEADER + count * DIGEST_SIZE + stored;
}

/**
 * Encodes a group: header, digests, contents.
 * @param level of zstd; contents that it makes no smaller are stored as they are
 */
export async function encodeGroup(digests: Uint8Array, pages: Uint8Array, level: number): Promise<Uint8Array[]> {
  const params = { [zlib.ZSTD_c_compressionLevel]: level };
  return sealGroup(digests, pages, await compress(pages, { params, chunkSize: ONE_CHUNK }));
}

/**
 * Puts a group together, in parts.
 * @param packed the pages as a zstd frame
 */
export function sealGroup(digests: Uint8Array, pages: Uint8Array, packed: Uint8Array): Uint8Array[] {
  const count = digests.length / DIGEST_SIZE;
  const smaller = packed.length < pages.length;
  const stored = smaller ? packed : pages;
  const head = Buffer.alloc(GROUP_HEADER + digests.length);
  const header = head.subarray(0, GROUP_HEADER);
  head.set(digests, GROUP_HEADER);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(count, 4);
  header.writeUInt32LE(stored.length, 8);
  header.writeUInt8(smaller ? CODEC.ZSTD : CODEC.NONE, 12);
  header.writeUInt32LE(crc32(stored), 16);
  header.writeUInt32LE(headChecksum(header, digests), 20);
  return [head, stored];
}

/** Reads a header; undefined where there is none, or one that is not whole. */
export function decodeGroupHeader(bytes: Buffer, at: number): GroupHeader | undefined {
  if (bytes.length - at < GROUP_HEADER || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  const count = bytes.readUInt32LE(at + 4);
  const stored = bytes.readUInt32LE(at + 8);
  const codec = bytes.readUInt8(at + 12);
  const wrong =
    count < 1 ||
    count > MAX_GROUP_CONTENTS ||
    stored < 1 ||
    stored > count * PAGE_SIZE ||
    (codec !== CODEC.ZSTD && (codec !== CODEC.NONE || stored !== count * PAGE_SIZE));
  if (wrong) return undefined;
  return { count, codec, stored, checksum: bytes.readUInt32LE(at + 16), headChecksum: bytes.readUInt32LE(at + 20) };
}

/** Whether the header and the digests behind it are as they were written. */
export function isGroupHead(bytes: Buffer, at: number, header: GroupHeader): boolean {
  const digests = bytes.subarray(at + GROUP_HEADER, at + GROUP_HEADER + header.count * DIGEST_SIZE);
  return headChecksum(bytes.subarray(at), digests) === header.headChecksum;
}

/** Whether the stored contents are as they were written. */
export function isGroupBody(header: GroupHeader, stored: Uint8Array): boolean {
  return stored.length === header.stored && crc32(stored) === header.checksum;
}

/** A group's contents, with the digests that they have. */
export interface GroupPages {
  readonly pages: Uint8Array;
  readonly digests: Uint8Array;
}

/** Memory that is used again: what a group lies in, compressed and plain. */
export interface GroupMemory {
  readonly stored: ArrayBuffer;
  readonly pages: ArrayBuffer;
}

/** Room for a group as it arrives, as it is stored, or for its contents: decompressing takes a byte more. */
export const GROUP_ROOM = (GROUP_CONTENTS + 3) * PAGE_SIZE;

/**
 * The contents of a group, and what their digests really are. Rejects with an `IntegrityError` where they can't be had.
 * @param stored the memory is given away whole, and comes back
 * @param room memory that the contents are put into where it is large enough; given away as well
 */
export async function decodeGroup(
  header: GroupHeader,
  stored: Uint8Array<ArrayBuffer>,
  worker: PageWorker,
  room?: ArrayBuffer,
): Promise<GroupPages & { readonly memory: GroupMemory }> {
  const { count, codec } = header;
  if (codec === CODEC.ZSTD) {
    const { pages, digests, packed } = await worker.decode(stored, count, room);
    return groupPages(count, pages, digests, packed);
  }
  const own = room && room.byteLength >= stored.length ? room : new ArrayBuffer(stored.length);
  new Uint8Array(own).set(stored);
  const { pages, digests } = await worker.digest(own, count, new ArrayBuffer(count * DIGEST_SIZE));
  return groupPages(count, pages, digests, stored.buffer);
}

function groupPages(count: number, pages: ArrayBuffer, digests: ArrayBuffer, stored: ArrayBuffer) {
  return {
    pages: new Uint8Array(pages, 0, count * PAGE_SIZE),
    digests: new Uint8Array(digests),
    memory: { stored, pages },
  };
}

function headChecksum(header: Uint8Array, digests: Uint8Array): number {
  return crc32(digests, crc32(header.subarray(0, 20)));
}
