import type { Stats } from "node:fs";
import { constants, type FileHandle, open, readFile, stat } from "node:fs/promises";
import { PAGE_SIZE } from "../../content/page.ts";
import { fileError, ShrinkerError } from "../../errors.ts";
import { openHoleMap } from "../../runtime.ts";
import type { Reader } from "./reader.ts";

/** Shorter holes are read: that costs less than a piece of their own. */
const MIN_HOLE = 64 << 10;

/** A file or block device, as it was found. */
export interface FoundFile {
  readonly stats: Stats;
  /** Bytes; undefined for a device that doesn't tell. */
  readonly size: number | undefined;
}

function unfit(path: string, why: string): ShrinkerError {
  return new ShrinkerError("input", `Cannot read "${path}": ${why}`);
}

/** What to throw where a file is not what it was when it was opened. */
export function changed(path: string): ShrinkerError {
  return unfit(path, "it changed while it was read; stop what writes to it, or copy it first, and run this again");
}

function checkKind(path: string, stats: Stats): void {
  if (stats.isFile() || stats.isBlockDevice()) return;
  if (stats.isDirectory()) throw unfit(path, "it is a directory; name the files in it");
  if (stats.isFIFO()) throw unfit(path, 'it is a pipe; connect it to standard input and name that, as "-"');
  if (stats.isSocket()) throw unfit(path, "it is a socket; for a running QEMU's control socket write qmp:SOCKET");
  throw unfit(path, "it is neither a file nor a block device");
}

/** Opens a file or block device. Rejects with `input`, naming the path and the remedy. */
export async function openFile(path: string): Promise<{ handle: FileHandle; found: FoundFile }> {
  try {
    // Looked at before it is opened, which means something to a device, and after, for it may be another by then: then
    // a pipe must not block.
    checkKind(path, await stat(path));
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await handle.stat();
      checkKind(path, stats);
      return { handle, found: { stats, size: stats.isFile() ? stats.size : await deviceSize(stats.rdev) } };
    } catch (error) {
      await handle.close();
      throw error;
    }
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
}

/** Linux tells a block device's size, in sectors of 512 bytes, by its number (makedev(3)). */
async function deviceSize(device: number): Promise<number | undefined> {
  const number = BigInt(device);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn);
  const minor = (number & 0xffn) | ((number >> 12n) & ~0xffn & 0xffff_ffffn);
  const sectors = Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8").catch(() => ""));
  return sectors > 0 ? sectors * 512 : undefined;
}

/** Whether a file is no longer what it was. A block device has no time of its own contents. */
export function differs(now: Stats, then: Stats): boolean {
  if (now.ino !== then.ino || now.dev !== then.dev) return true;
  return then.isFile() && (now.size !== then.size || now.mtimeMs !== then.mtimeMs);
}

/** Reads the file that was `found`, without its holes. Rejects with `input` if it isn't that any more. */
export async function fileReader(path: string, found: FoundFile): Promise<Reader> {
  const { handle, found: again } = await openFile(path);
  if (differs(again.stats, found.stats)) {
    await handle.close();
    throw changed(path);
  }
  const size = found.size ?? Number.POSITIVE_INFINITY;
  const sparse = found.stats.isFile() && found.stats.blocks * 512 < size;
  const holes = sparse ? await openHoleMap(handle.fd, size) : undefined;
  let position = 0;
  let dataEnd = holes ? 0 : size;

  return {
    hole() {
      if (!holes || position < dataEnd || position >= size) return 0;
      const data = holes.next(position);
      // File systems with small blocks have extents that would cut a page.
      const start = data.start === size ? size : data.start - (data.start % PAGE_SIZE);
      dataEnd = Math.min(size, Math.ceil(data.end / PAGE_SIZE) * PAGE_SIZE);
      const length = start - position;
      if (length < MIN_HOLE && start < size) return 0;
      position = start;
      return length;
    },
    async read(buffer) {
      const wanted = Math.min(buffer.length, dataEnd - position);
      let got = 0;
      try {
        while (got < wanted) {
          const { bytesRead } = await handle.read(buffer, got, wanted - got, position + got);
          if (bytesRead === 0) break;
          got += bytesRead;
        }
      } catch (error) {
        throw fileError("Cannot read", path, error);
      }
      position += got;
      if (got < wanted && found.size !== undefined) throw changed(path);
      return got;
    },
    async finish() {
      if (differs(await handle.stat(), found.stats)) throw changed(path);
    },
    async close() {
      await handle.close().catch(() => {});
    },
  };
}
