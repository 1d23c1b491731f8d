import { constants, type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { fileError, IntegrityError, ShrinkerError } from "../errors.ts";
import { syncFolder } from "../files/whole.ts";
import {
  decodeGroupHeader,
  GROUP_HEADER,
  type GroupHeader,
  groupLength,
  isGroupBody,
  isGroupHead,
  MAX_GROUP_CONTENTS,
} from "./group.ts";

/** First bytes of a pack, as those of the wire: a byte that no text has, a name, and line ends. */
const MAGIC = Uint8Array.of(0x89, 0x53, 0x48, 0x52, 0x50, 0x0d, 0x0a, 0x1a);
const VERSION = 1;
export const PACK_HEADER = 16;
/** A pack that has this much takes no more. */
export const PACK_BYTES = 512 << 20;
/** Packs of a store: an index has 16 bits for their number. */
export const MAX_PACKS = 0xffff;

/** No group is longer; so much is read at once. */
const MAX_GROUP_BYTES = GROUP_HEADER + MAX_GROUP_CONTENTS * (DIGEST_SIZE + PAGE_SIZE);

export function packPath(folder: string, number: number): string {
  return join(folder, `${String(number).padStart(5, "0")}.pack`);
}

/** The numbers of the packs in a folder, ascending. */
export async function listPacks(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch((error) => {
    throw fileError("Cannot read", folder, error);
  });
  return names
    .flatMap((name) => /^(\d{5})\.pack$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

export function packHeader(): Buffer {
  const header = Buffer.alloc(PACK_HEADER);
  header.set(MAGIC);
  header.writeUInt16LE(VERSION, 8);
  header.writeUInt32LE(crc32(header.subarray(0, 12)), 12);
  return header;
}

/** Checks the first bytes of a pack. Throws `refused` for another version, else an `IntegrityError`. */
function checkPackHeader(header: Buffer, path: string): void {
  const whole = header.length === PACK_HEADER && header.readUInt32LE(12) === crc32(header.subarray(0, 12));
  if (!whole || Buffer.compare(header.subarray(0, 8), MAGIC) !== 0)
    throw new IntegrityError(`"${path}" is no pack, or its beginning is damaged: see shrinker verify`);
  const version = header.readUInt16LE(8);
  if (version !== VERSION) {
    const message = `"${path}" has version ${version}, this program reads ${VERSION}: use the release that wrote it`;
    throw new ShrinkerError("refused", message);
  }
}

/** Checks the first bytes of a pack that is not scanned from there. Rejects as `scanPack`. */
export async function checkPack(path: string): Promise<void> {
  await using handle = await open(path, constants.O_RDONLY).catch((error) => {
    throw fileError("Cannot read", path, error);
  });
  checkPackHeader(await readAt(handle, path, 0, PACK_HEADER), path);
}

/** Makes what another process has written to packs last; it may have died before it did so. */
export async function syncPacks(folder: string, packs: Iterable<number>): Promise<void> {
  for (const pack of packs) {
    const path = packPath(folder, pack);
    try {
      await using handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
      await handle.datasync();
    } catch (error) {
      throw fileError("Cannot write", path, error);
    }
  }
  await syncFolder(folder);
}

/** One group as a scan finds it. */
export interface ScannedGroup {
  /** Where its header begins, in the pack. */
  readonly offset: number;
  readonly header: GroupHeader;
  /** 32 bytes each; valid until the scan goes on. */
  readonly digests: Buffer;
  /** The contents as stored; valid until the scan goes on. */
  readonly stored: Buffer;
  /** Whether the contents' checksum is right; that of the head is. */
  readonly whole: boolean;
}

/**
 * Reads a pack's groups from `start` (a group's beginning, or 0) on, in order. Ends at the end of the pack, or at the first
 * group whose head is not whole; `end` then tells how far it came.
 * @param read told what is not to be had otherwise: how far the groups reach, and the length of the file
 */
export async function* scanPack(
  path: string,
  start: number,
  read: { end: number; size: number },
): AsyncGenerator<ScannedGroup, void, undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY);
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
  try {
    const { size } = await handle.stat();
    read.size = size;
    let at = start;
    if (start === 0) {
      checkPackHeader(await readAt(handle, path, 0, PACK_HEADER), path);
      at = PACK_HEADER;
    }
    read.end = at;
    const room = Buffer.allocUnsafeSlow(Math.max(0, Math.min(size - at, MAX_GROUP_BYTES)));
    let buffer = room.subarray(0, 0);
    let bufferAt = at;
    const need = async (length: number) => {
      if (at + length <= bufferAt + buffer.length) return;
      // A group that the file had no more of reaches beyond it.
      const rest = buffer.copy(room, 0, Math.min(at - bufferAt, buffer.length));
      buffer = await readInto(handle, path, at, room, rest, room.length);
      bufferAt = at;
    };
    while (at < size) {
      await need(GROUP_HEADER);
      let header = decodeGroupHeader(buffer, at - bufferAt);
      if (!header || at + groupLength(header) > size || groupLength(header) > MAX_GROUP_BYTES) return;
      await need(groupLength(header));
      const from = at - bufferAt;
      header = decodeGroupHeader(buffer, from);
      if (!header || !isGroupHead(buffer, from, header)) return;
      const digestsAt = from + GROUP_HEADER;
      const digests = buffer.subarray(digestsAt, digestsAt + header.count * DIGEST_SIZE);
      const stored = buffer.subarray(digestsAt + digests.length, from + groupLength(header));
      yield { offset: at, header, digests, stored, whole: isGroupBody(header, stored) };
      at += groupLength(header);
      read.end = at;
    }
  } finally {
    await handle.close();
  }
}

/** Up to `length` bytes at `position`, in memory of their own; fewer at the end of the file. Rejects with `input` where there is no such memory. */
export async function readAt(
  handle: FileHandle,
  path: string,
  position: number,
  length: number,
): Promise<Buffer<ArrayBuffer>> {
  let buffer: Buffer<ArrayBuffer>;
  try {
    buffer = Buffer.allocUnsafeSlow(length);
  } catch (error) {
    // Holes make a file of any length.
    throw new ShrinkerError("input", `Cannot read "${path}": its ${length} bytes don't fit into memory`, {
      cause: error,
    });
  }
  return readInto(handle, path, position, buffer, 0, length);
}

/**
 * Reads on: what `buffer` has from 0 to `got` is the file's at `position`. Returns as much of the first `length` bytes as the
 * file has.
 */
export async function readInto(
  handle: FileHandle,
  path: string,
  position: number,
  buffer: Buffer<ArrayBuffer>,
  begin: number,
  length: number,
): Promise<Buffer<ArrayBuffer>> {
  let got = begin;
  try {
    while (got < length) {
      const { bytesRead } = await handle.read(buffer, got, length - got, position + got);
      if (bytesRead === 0) break;
      got += bytesRead;
    }
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
  return buffer.subarray(0, got);
}
