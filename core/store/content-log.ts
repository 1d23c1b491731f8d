import { closeSync, openSync, readSync } from "node:fs";
import { constants, type FileHandle, open, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { DIGEST_SIZE } from "../content/page.ts";
import { fileError, IntegrityError, systemCode } from "../errors.ts";

/**
 * The log of a session that is over: the digests of its contents, by their numbers. Both ends keep it, so that a later
 * session can name runs of numbers instead of digests. (Write-once logs at both ends: as Foundation does for archives; Rhea,
 * Cox, Pesterev, ATC 2008.)
 *
 * A header of 64 bytes (magic, u16 version, the session's 16 bytes at 16, u32 CRC-32 of the rest at 60), then blocks of
 * 8200 bytes: u32 count, u32 CRC-32 of the digests, 256 digests. Only the last block may have fewer than 256.
 */
const MAGIC = Uint8Array.of(0x89, 0x53, 0x48, 0x52, 0x4c, 0x0d, 0x0a, 0x1a);
const VERSION = 1;
const HEADER = 64;
const BLOCK_DIGESTS = 256;
const BLOCK_HEADER = 8;
const BLOCK = BLOCK_HEADER + BLOCK_DIGESTS * DIGEST_SIZE;
export const SESSION_BYTES = 16;

export function logName(session: Uint8Array): string {
  return `${Buffer.from(session).toString("hex")}.log`;
}

/** Logs that this process writes; no other one writes to the same folder. */
const written = new Set<string>();

/** Writes a log while its session goes on. What is lost when the process dies are the last 255 digests. */
export class LogWriter {
  readonly #handle: FileHandle;
  readonly #path: string;
  readonly #block = Buffer.alloc(BLOCK);
  #count = 0;
  #at = HEADER;
  #ended = false;
  /** Bytes of one of the same session that was there already. */
  readonly #had: number;
  /** Whether that one is of other contents, or still written: whoever names a session may not be the one who has it. */
  #foreign: boolean;
  /** Whether it is this one that is written. */
  readonly #own: boolean;

  private constructor(handle: FileHandle, path: string, had: number) {
    this.#handle = handle;
    this.#path = path;
    this.#had = had;
    this.#own = !written.has(path);
    this.#foreign = !this.#own;
    written.add(path);
  }

  /**
   * Begins a log. Where there is one of the same session already, as of a bundle that is received again, it goes on behind that: the
   * same contents come in the same order, perhaps more of them. Where others come, it stays as it is.
   */
  static async create(folder: string, session: Uint8Array): Promise<LogWriter> {
    const path = join(folder, logName(session));
    const header = Buffer.alloc(HEADER);
    header.set(MAGIC);
    header.writeUInt16LE(VERSION, 8);
    header.set(session, 16);
    header.writeUInt32LE(crc32(header.subarray(0, 60)), 60);
    let handle: FileHandle | undefined;
    let had: number | undefined;
    try {
      handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
      had = (await handle.stat()).size;
      await handle.write(header, 0, HEADER, 0);
      return new LogWriter(handle, path, had);
    } catch (error) {
      await handle?.close().catch(() => {});
      if (had === 0) await unlink(path).catch(() => {});
      throw fileError("Cannot write", path, error);
    }
  }

  /** Takes the digests of the next `count` contents. Calls don't overlap. */
  async put(digests: Uint8Array, _pages: Uint8Array, count: number): Promise<void> {
    for (let done = 0; done < count && !this.#foreign; ) {
      const part = Math.min(count - done, BLOCK_DIGESTS - this.#count);
      const from = digests.subarray(done * DIGEST_SIZE, (done + part) * DIGEST_SIZE);
      this.#block.set(from, BLOCK_HEADER + this.#count * DIGEST_SIZE);
      this.#count += part;
      done += part;
      if (this.#count === BLOCK_DIGESTS) await this.#write();
    }
  }

  /** Writes what is left. A log of nothing is removed. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#own) written.delete(this.#path);
    const empty = this.#had === 0 && this.#at === HEADER && this.#count === 0;
    try {
      if (this.#count > 0 && !this.#foreign) await this.#write();
    } finally {
      await this.#handle.close().catch(() => {});
    }
    if (empty) await unlink(this.#path).catch(() => {});
  }

  /** Ends the log, and leaves nothing of it, unless it was there already. */
  async remove(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#own) written.delete(this.#path);
    await this.#handle.close().catch(() => {});
    if (this.#had > 0) return;
    await unlink(this.#path).catch((error) => {
      throw fileError("Cannot remove", this.#path, error);
    });
  }

  async #write(): Promise<void> {
    const digests = this.#block.subarray(BLOCK_HEADER, BLOCK_HEADER + this.#count * DIGEST_SIZE);
    this.#block.writeUInt32LE(this.#count, 0);
    this.#block.writeUInt32LE(crc32(digests), 4);
    try {
      if (this.#at < this.#had && (await this.#isThere(digests))) return;
      await this.#handle.write(this.#block, 0, BLOCK_HEADER + digests.length, this.#at);
    } catch (error) {
      throw fileError("Cannot write", this.#path, error);
    }
    this.#at += BLOCK;
    this.#count = 0;
  }

  /** Whether nothing is to be written, as it is there already, or something else is; then this goes on behind it, or nowhere. */
  async #isThere(digests: Uint8Array): Promise<boolean> {
    const before = Buffer.alloc(BLOCK);
    const { bytesRead } = await this.#handle.read(before, 0, BLOCK, this.#at);
    const count = countOf(before, bytesRead);
    const both = Math.min(count * DIGEST_SIZE, digests.length);
    const same = Buffer.compare(before.subarray(BLOCK_HEADER, BLOCK_HEADER + both), digests.subarray(0, both)) === 0;
    this.#foreign = !same;
    if (!same || count < this.#count) return !same;
    this.#at += BLOCK;
    this.#count = 0;
    return true;
  }
}

/** Reads a log by numbers. Reads are synchronous, of a block that neighbours share. */
export class LogReader {
  readonly session: Buffer;
  /** Digests that are right, up to the first block that is not; of a log that has more than are asked for, so many. */
  readonly length: number;
  readonly #path: string;
  readonly #fd: number;
  readonly #block = Buffer.alloc(BLOCK);
  #loaded = -1;

  private constructor(path: string, fd: number, session: Buffer, length: number) {
    this.#path = path;
    this.#fd = fd;
    this.session = session;
    this.length = length;
  }

  /**
   * Reads and checks a log, up to the first `most` digests; undefined where it is none, or gone. Throws `input` where it can't be
   * read.
   */
  static open(path: string, most = Number.POSITIVE_INFINITY): LogReader | undefined {
    let fd: number | undefined;
    try {
      fd = openSync(path, "r");
      const reader = LogReader.#read(path, fd, most);
      if (!reader) closeSync(fd);
      return reader;
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      // Who has ended a session removes the oldest.
      if (systemCode(error) === "ENOENT") return undefined;
      throw fileError("Cannot read", path, error);
    }
  }

  static #read(path: string, fd: number, most: number): LogReader | undefined {
    const header = Buffer.alloc(HEADER);
    const got = readSync(fd, header, 0, HEADER, 0);
    const right =
      got === HEADER &&
      Buffer.compare(header.subarray(0, 8), MAGIC) === 0 &&
      header.readUInt16LE(8) === VERSION &&
      header.readUInt32LE(60) === crc32(header.subarray(0, 60));
    if (!right) return undefined;
    const block = Buffer.alloc(BLOCK);
    let length = 0;
    for (let count = BLOCK_DIGESTS; count === BLOCK_DIGESTS && length < most; length += count) {
      count = readBlock(fd, block, length / BLOCK_DIGESTS);
    }
    return new LogReader(path, fd, Buffer.from(header.subarray(16, 16 + SESSION_BYTES)), Math.min(length, most));
  }

  /** Copies the digests of `[first, first + count)` to `target` at `at`. Throws an `IntegrityError` where the file has changed. */
  read(first: number, count: number, target: Uint8Array, at: number): void {
    for (let done = 0; done < count; ) {
      const within = (first + done) % BLOCK_DIGESTS;
      const index = (first + done - within) / BLOCK_DIGESTS;
      const part = Math.min(count - done, BLOCK_DIGESTS - within);
      if (this.#loaded !== index) {
        this.#loaded = -1;
        if (readBlock(this.#fd, this.#block, index) < Math.min(BLOCK_DIGESTS, this.length - index * BLOCK_DIGESTS))
          throw new IntegrityError(`"${this.#path}" has changed while it was used: run again`);
        this.#loaded = index;
      }
      const from = BLOCK_HEADER + within * DIGEST_SIZE;
      target.set(this.#block.subarray(from, from + part * DIGEST_SIZE), at + done * DIGEST_SIZE);
      done += part;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Returns how many digests the block has; 0 where it is not there, or not right. */
function readBlock(fd: number, block: Buffer, index: number): number {
  return countOf(block, readSync(fd, block, 0, BLOCK, HEADER + index * BLOCK));
}

/** The same of a block of which so many bytes were read. */
function countOf(block: Buffer, got: number): number {
  if (got < BLOCK_HEADER) return 0;
  const count = block.readUInt32LE(0);
  const end = BLOCK_HEADER + count * DIGEST_SIZE;
  if (count > BLOCK_DIGESTS || end > got || crc32(block.subarray(BLOCK_HEADER, end)) !== block.readUInt32LE(4))
    return 0;
  return count;
}

/** The logs in a folder, the latest first. */
export async function listLogs(folder: string): Promise<{ path: string; session: string }[]> {
  const found: { path: string; session: string; at: number }[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    const session = /^([0-9a-f]{32})\.log$/.exec(name)?.[1];
    const path = join(folder, name);
    const stats = session && (await stat(path).catch(() => undefined));
    if (session && stats) found.push({ path, session, at: stats.mtimeMs });
  }
  return found.sort((a, b) => b.at - a.at || (a.session < b.session ? -1 : 1));
}

/**
 * Removes the oldest logs of a folder: at most `most` stay, and none that is older than those that have `contents` digests
 * together. The latest one stays, however long it is.
 */
export async function trimLogs(folder: string, contents: number, most: number): Promise<void> {
  let left = contents;
  let kept = 0;
  for (const { path } of await listLogs(folder)) {
    if (kept++ < most && left > 0) {
      const { size } = await stat(path).catch(() => ({ size: 0 }));
      left -= Math.max(0, size - HEADER) / DIGEST_SIZE;
    } else await unlink(path).catch(() => {});
  }
}
