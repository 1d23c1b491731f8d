import { randomBytes } from "node:crypto";
import { constants, type FileHandle, link, open, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fileError, systemCode } from "../errors.ts";
import { syncFolder } from "./whole.ts";

/** What a file is called while it is written aside, after its name and a random part. */
export const PARTIAL_SUFFIX = ".shrinker-partial";

/** A file that has no name yet that anybody would look for. */
export interface AsideFile {
  readonly handle: FileHandle;
  /** Where it will be, for messages. */
  readonly path: string;
  /** Gives it its name, lastingly. Rejects with `exists` where that was taken meanwhile. */
  publish(): Promise<void>;
  /** Removes it. Never rejects. */
  remove(): Promise<void>;
}

const MAX_NAME = 255;
/** What `link` says where a file system has no hard links (FAT, some network and FUSE file systems). */
const NO_LINKS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);

/** `.NAME.RANDOM.shrinker-partial`, with as much of the name as there is room for. */
function asideName(name: string): string {
  const tail = `.${randomBytes(8).toString("hex")}${PARTIAL_SUFFIX}`;
  let head = name;
  while (Buffer.byteLength(head) > MAX_NAME - 1 - tail.length) head = [...head].slice(0, -1).join("");
  return `.${head}${tail}`;
}

/**
 * Makes a file in `directory` that will be called `name`.
 * @param force whether it may replace another then
 */
export async function openAside(directory: string, name: string, force: boolean): Promise<AsideFile> {
  const path = join(directory, name);
  const aside = join(directory, asideName(name));
  const fresh = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await open(aside, fresh, 0o600).catch((error) => {
    throw fileError("Cannot write", path, error);
  });
  return {
    handle,
    path,
    async publish() {
      try {
        if (force) await rename(aside, path);
        else await publishNew(aside, path);
      } catch (error) {
        throw fileError("Cannot write", path, error);
      }
      await syncFolder(directory);
    },
    async remove() {
      await handle.close().catch(() => {});
      await unlink(aside).catch(() => {});
    },
  };
}

/** Unlike `rename`, `link` never replaces anything, not even a dangling symbolic link. */
async function publishNew(aside: string, path: string): Promise<void> {
  try {
    await link(aside, path);
  } catch (error) {
    if (!NO_LINKS.has(systemCode(error) ?? "")) throw error;
    // Without links: whoever makes the empty file owns the name, and replaces only that.
    await (await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)).close();
    await rename(aside, path);
    return;
  }
  await unlink(aside);
}
