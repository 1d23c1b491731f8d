import * as fs from "node:fs";
import { type PathLike, promises } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { systemCode } from "../core/errors.ts";
import { coalesce } from "./coalesce.ts";

/**
 * File descriptors as such, on the runtime's thread pool: they may be inherited (stdout), pipes or devices, and Deno
 * writes to `process.stdout` synchronously, which would stop the reading direction. (Deno 2.9 also writes to other
 * files synchronously, which only shows where a FIFO's reader is slow; its stdout is asynchronous here.)
 */

/** Size of reads from a pipe: what Linux's pipes hold by default, twice. */
export const PIPE_PIECE = 128 * 1024;
/** Longest pause before a descriptor that somebody made non-blocking is tried again. */
const MAX_PAUSE_MS = 16;

/** How long a connection that is destroyed waits for a call stuck in a FIFO or a dead network drive. */
export const STUCK_MS = 1000;

const open = promisify(fs.open);

/** Tries again where an inherited descriptor is non-blocking and not ready. */
async function whenReady(call: (done: (error: Error | null, count: number) => void) => void): Promise<number> {
  for (let pause = 1; ; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
    try {
      return await new Promise<number>((resolve, reject) =>
        call((error, count) => (error ? reject(error) : resolve(count))),
      );
    } catch (error) {
      const code = systemCode(error);
      if (code !== "EAGAIN" && code !== "EINTR") throw error;
      await sleep(pause);
    }
  }
}

/** Writes buffers at the descriptor's position, all of their bytes. Big buffers aren't copied. */
export async function writeAll(fd: number, buffers: readonly Uint8Array[]): Promise<void> {
  for (const buffer of coalesce(buffers)) {
    for (let start = 0; start < buffer.length; ) {
      const length = buffer.length - start;
      start += await whenReady((done) => fs.write(fd, buffer, start, length, null, done));
    }
  }
}

/** Reads up to `size` bytes at the descriptor's position into a buffer of their own; empty at the end. */
export async function readPiece(fd: number, size: number): Promise<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(size);
  const length = await whenReady((done) => fs.read(fd, buffer, 0, size, null, done));
  // A short read must not keep a big buffer alive.
  return length * 2 < size ? Buffer.from(buffer.subarray(0, length)) : buffer.subarray(0, length);
}

/** Makes written bytes last. Pipes and devices that can't be synced are left as they are. */
export async function sync(fd: number): Promise<void> {
  try {
    await promisify(fs.fsync)(fd);
  } catch (error) {
    if (!["EINVAL", "ENOTSUP", "EROFS"].includes(systemCode(error) ?? "")) throw error;
  }
}

/** Makes a folder's names last. */
export async function syncFolder(path: PathLike): Promise<void> {
  const folder = await promises.open(path, "r");
  try {
    await sync(folder.fd);
  } finally {
    await folder.close();
  }
}

/**
 * Opens a FIFO, which waits for its other end. The signal ends the wait: a blocked `open` can't be cancelled, so the
 * other end is opened for a moment, which makes it return.
 */
export async function openFifo(path: string, flags: number, signal: AbortSignal): Promise<number> {
  const other = flags & fs.constants.O_WRONLY ? fs.constants.O_RDONLY : fs.constants.O_WRONLY;
  let settled = false;
  const onAbort = async () => {
    while (!settled) {
      await open(path, other | fs.constants.O_NONBLOCK).then(
        (fd) => fs.closeSync(fd),
        () => {}, // Nobody waits in `open` yet: try again.
      );
      await sleep(10);
    }
  };
  signal.addEventListener("abort", onAbort);
  try {
    return await open(path, flags);
  } finally {
    settled = true;
    signal.removeEventListener("abort", onAbort);
  }
}
