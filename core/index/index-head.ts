import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import * as v from "valibot";
import { IntegrityError, ShrinkerError } from "../errors.ts";
import { bytes, decodeMap, encodeMap, number, text } from "../wire/map.ts";

/** docs/index-format.md describes all of this. */
const MAGIC = Uint8Array.of(0x89, 0x53, 0x48, 0x52, 0x58, 0x0d, 0x0a, 0x1a);
const VERSION = 1;
/** Magic, u16 version, u16 zero, u32 length of the map. */
const HEADER_BYTES = 16;
const CRC_BYTES = 4;
const MAX_MAP = 1 << 20;
const MAX_LIST = 1024;

const name = text(255);

const Meta = v.object({
  /** The store that it was made from. */
  site: v.optional(bytes(16)),
  /** Which of the store's states: its contents are only added to in a generation. */
  generation: v.optional(bytes(16)),
  /** The tenant whose contents these are. */
  domain: v.pipe(text(256), v.nonEmpty()),
  /** Milliseconds since 1970. */
  created: number,
  /** The program that wrote it and its version, for messages. */
  software: text(256),
  /** Records. */
  count: number,
  /** Files at the site that contents may be read from. */
  seeds: v.pipe(
    v.array(v.object({ name, size: number, mtime: v.pipe(v.number(), v.finite()) })),
    v.maxLength(MAX_LIST),
  ),
  /** What it was made from, for people. */
  sources: v.pipe(v.array(name), v.maxLength(MAX_LIST)),
});

/** What an index says of itself. */
export type IndexMeta = v.InferOutput<typeof Meta>;

/** What stands before an index file's records. Throws `usage` for a meta that does not fit. */
export function encodeHead(path: string, meta: IndexMeta): Buffer {
  const given = Object.fromEntries(Object.entries(meta).filter(([, value]) => value !== undefined));
  const checked = v.safeParse(Meta, given);
  const map = checked.success ? encodeMap(Meta, checked.output) : Buffer.alloc(0);
  const why = checked.success
    ? map.length > MAX_MAP && `what it says of itself takes more than ${MAX_MAP} bytes`
    : `${v.getDotPath(checked.issues[0])} does not fit into an index`;
  if (why) throw new ShrinkerError("usage", `Cannot write "${path}": ${why}; name fewer sources, or shorter ones`);
  const head = Buffer.alloc(HEADER_BYTES + map.length + CRC_BYTES);
  head.set(MAGIC);
  head.writeUInt16LE(VERSION, 8);
  head.writeUInt32LE(map.length, 12);
  head.set(map, HEADER_BYTES);
  head.writeUInt32LE(crc32(head.subarray(0, -CRC_BYTES)), head.length - CRC_BYTES);
  return head;
}

/** The bytes before the records, and what the map says; an error as `readIndexFile` has it. */
export async function readHead(handle: FileHandle, path: string): Promise<{ head: Buffer; meta: IndexMeta }> {
  const header = Buffer.alloc(HEADER_BYTES);
  const { bytesRead } = await handle.read(header, 0, HEADER_BYTES, 0);
  const begun = Math.min(bytesRead, MAGIC.length);
  if (Buffer.compare(header.subarray(0, begun), MAGIC.subarray(0, begun)) !== 0) throw notAnIndex(path, "is no index");
  if (bytesRead < HEADER_BYTES) throw damaged(path, "is cut short");
  const version = header.readUInt16LE(8);
  if (version !== VERSION) throw notAnIndex(path, `is an index of version ${version}, not ${VERSION}`);
  const length = header.readUInt32LE(12);
  if (length > MAX_MAP) throw damaged(path, `has a head of ${length} bytes`);
  const head = Buffer.alloc(HEADER_BYTES + length + CRC_BYTES);
  if (!(await readInto(handle, head, 0))) throw damaged(path, "is cut short");
  if (head.readUInt32LE(head.length - CRC_BYTES) !== crc32(head.subarray(0, -CRC_BYTES))) {
    throw damaged(path, "has a wrong checksum");
  }
  try {
    return { head, meta: decodeMap(Meta, head.subarray(HEADER_BYTES, -CRC_BYTES), "it") };
  } catch (error) {
    throw damaged(path, `can't be understood: ${(error as Error).message}`);
  }
}

/**
 * Whether a file that begins so is to be read as an index: by most of its first bytes, as one that is damaged there is still
 * no image. So are this program's other files, which begin almost alike.
 */
export function looksLikeIndex(head: Uint8Array): boolean {
  return MAGIC.filter((byte, i) => head[i] === byte).length >= MAGIC.length - 2;
}

/** Fills all of `target` from `position` on; false where the file ends before. */
export async function readInto(handle: FileHandle, target: Uint8Array, position: number): Promise<boolean> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await handle.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

export function notAnIndex(path: string, why: string): ShrinkerError {
  return new ShrinkerError("input", `"${path}" ${why}; name one that "shrinker index -o" of this release has written`);
}

export function damaged(path: string, why: string): IntegrityError {
  return new IntegrityError(`"${path}" ${why}; copy it again, or make it again with "shrinker index"`);
}
