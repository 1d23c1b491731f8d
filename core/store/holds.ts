import { open, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { fileError, IntegrityError, ShrinkerError, systemCode } from "../errors.ts";
import { openAside } from "../files/aside.ts";
import { syncFolder } from "../files/whole.ts";
import { isSorted, PREFIX_SIZE, PrefixTable } from "../index/prefix-table.ts";
import type { Layout } from "./layout.ts";
import { readAt } from "./pack.ts";

const MAGIC = Uint8Array.of(0x89, 0x53, 0x48, 0x52, 0x48, 0x0d, 0x0a, 0x1a);
const VERSION = 1;
/** Magic, u16 version, u16 zero, u32 count, u64 created, u64 expires, u32 CRC-32 of the records, u32 CRC-32 of the 36 bytes before. */
const HEADER = 40;
const SUFFIX = ".hold";
/** Bytes; leaves room for the suffix, and for what an unfinished file is called. */
const MAX_NAME = 200;
const UNSAFE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}/]/u;
/** The latest time that there is, in milliseconds since 1970 (ECMA-262). */
const MAX_TIME = 8.64e15;

/** Contents that stay until a time, whether a snapshot needs them or not: a bundle may have been made that leaves them out. */
export interface Hold {
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** Milliseconds since 1970; infinity for one that is damaged, which never expires by itself. */
  readonly expires: number;
  readonly contents: number;
  /** Why it can't be used. */
  readonly error: ShrinkerError | undefined;
}

export interface NewHold {
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly expires: number;
  /** Without payload. */
  readonly table: PrefixTable;
}

/**
 * Pins contents; lasts once the promise resolves. Only what the caller knows to be in the store now is sure to stay: it has the
 * store open, so that nobody prunes it meanwhile. Rejects with `refused` for a name that can't be one, `exists` where a hold of
 * that name has not expired yet.
 */
export async function createHold(layout: Layout, { name, created, expires, table }: NewHold): Promise<void> {
  if (table.payloadSize !== 0) throw new RangeError("a hold has no payload");
  const path = holdPath(layout, name);
  const before = (await listHolds(layout)).find((hold) => hold.name === name);
  if (before && before.expires > created) throw taken(name);
  const header = Buffer.alloc(HEADER);
  header.set(MAGIC);
  header.writeUInt16LE(VERSION, 8);
  header.writeUInt32LE(table.count, 12);
  header.writeBigUInt64LE(BigInt(Math.floor(created)), 16);
  header.writeBigUInt64LE(BigInt(Math.ceil(expires)), 24);
  header.writeUInt32LE(crc32(table.records), 32);
  header.writeUInt32LE(crc32(header.subarray(0, 36)), 36);
  const file = await openAside(layout.holds, name + SUFFIX, before !== undefined);
  try {
    for (const part of [header, table.records]) {
      for (let done = 0; done < part.length; ) done += (await file.handle.write(part, done)).bytesWritten;
    }
    await file.handle.sync();
    await file.handle.close();
    await file.publish();
  } catch (error) {
    await file.remove();
    const told = fileError("Cannot write", path, error);
    throw told.code === "exists" ? taken(name) : told;
  }
}

/** All holds of a domain, also those that have expired or are damaged. Reads their heads only. */
export async function listHolds(layout: Layout): Promise<Hold[]> {
  const names = await readdir(layout.holds).catch((error) => {
    throw fileError("Cannot read", layout.holds, error);
  });
  const holds: Hold[] = [];
  for (const file of names.filter((file) => file.endsWith(SUFFIX)).sort()) {
    const name = file.slice(0, -SUFFIX.length);
    try {
      holds.push({ name, ...(await readHold(join(layout.holds, file), false)).head, error: undefined });
    } catch (error) {
      const why = fileError("Cannot read", join(layout.holds, file), error);
      holds.push({ name, created: 0, expires: Number.POSITIVE_INFINITY, contents: 0, error: why });
    }
  }
  return holds;
}

/** The digests that a hold pins. Rejects with `integrity` where it is damaged, `refused` for another version. */
export async function heldBy(layout: Layout, name: string): Promise<PrefixTable> {
  return (await readHold(holdPath(layout, name), true)).table;
}

/** Ends a hold before its time; its contents stay until they are pruned. Rejects with `input` where there is none. */
export async function releaseHold(layout: Layout, name: string): Promise<void> {
  const path = holdPath(layout, name);
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) === "ENOENT") throw new ShrinkerError("input", `There is no hold "${name}" in the store`);
    throw fileError("Cannot remove", path, error);
  }
  await syncFolder(layout.holds);
}

/** Where a hold is. Throws `refused` for a name that can't be one. */
export function holdPath(layout: Layout, name: string): string {
  if (name === "" || name.startsWith(".") || UNSAFE.test(name) || Buffer.byteLength(name) > MAX_NAME) {
    const rules = `1 to ${MAX_NAME} bytes, no / and no control characters, not beginning with a dot`;
    throw new ShrinkerError("refused", `A hold can't be called ${JSON.stringify(name.slice(0, 40))}: ${rules}`);
  }
  return join(layout.holds, name + SUFFIX);
}

/** @param whole false reads the head only, and the table is empty */
async function readHold(path: string, whole: boolean) {
  await using handle = await open(path, "r").catch((error) => {
    throw fileError("Cannot read", path, error);
  });
  const { size } = await handle.stat();
  const header = await readAt(handle, path, 0, HEADER);
  const right = header.length === HEADER && header.readUInt32LE(36) === crc32(header.subarray(0, 36));
  if (!right || Buffer.compare(header.subarray(0, 8), MAGIC) !== 0) throw damaged(path);
  if (header.readUInt16LE(8) !== VERSION)
    throw new ShrinkerError("refused", `"${path}" is of another version: use the release that wrote it`);
  const contents = header.readUInt32LE(12);
  const [created, expires] = [16, 24].map((at) => Number(header.readBigUInt64LE(at))) as [number, number];
  if (size !== HEADER + contents * PREFIX_SIZE || created > MAX_TIME || expires > MAX_TIME) throw damaged(path);
  const records = whole ? await readAt(handle, path, HEADER, contents * PREFIX_SIZE) : new Uint8Array(0);
  if (whole && (records.length + HEADER !== size || crc32(records) !== header.readUInt32LE(32))) throw damaged(path);
  if (!isSorted(records, 0)) throw damaged(path);
  return { head: { created, expires, contents }, table: new PrefixTable(records, 0) };
}

function damaged(path: string): IntegrityError {
  return new IntegrityError(`"${path}" is damaged: what it holds is not known; put back a copy, or release it`);
}

function taken(name: string): ShrinkerError {
  const message = `There is a hold "${name}" already: choose another name, or release it with "shrinker prune --release"`;
  return new ShrinkerError("exists", message);
}
