import { constants, type FileHandle, open } from "node:fs/promises";
import { fileError, ShrinkerError, systemCode } from "../errors.ts";
import { lockOpenFile } from "../runtime.ts";

/** A lock that ends with the process, however it ends. */
export interface Lock {
  release(): Promise<void>;
}

/**
 * Takes a lock, or rejects with `refused` where another process has it.
 * @param path a file that is made where it is missing, and stays
 * @param exclusive false for one that others may share
 * @param taken what it means that another has it, and what to do
 */
export async function takeLock(path: string, exclusive: boolean, taken: string): Promise<Lock> {
  let handle: FileHandle;
  try {
    handle = await openLockFile(path);
  } catch (error) {
    throw fileError("Cannot lock", path, error);
  }
  const locked = await lockOpenFile(handle.fd, exclusive);
  if (locked) return { release: () => handle.close() };
  await handle.close();
  if (locked === false) throw new ShrinkerError("refused", taken);
  const message = `Cannot lock "${path}": that needs Linux, and on Deno the permission --allow-ffi`;
  throw new ShrinkerError("input", message);
}

/** On a read-only store there is nobody to lock out, but readers may lock a file that is there. */
async function openLockFile(path: string): Promise<FileHandle> {
  const { O_RDWR, O_RDONLY, O_CREAT, O_NOFOLLOW } = constants;
  try {
    return await open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  } catch (error) {
    if (systemCode(error) !== "EROFS" && systemCode(error) !== "EACCES") throw error;
    return open(path, O_RDONLY | O_NOFOLLOW);
  }
}
