import { lstat, mkdtemp, opendir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Lock, takeLock } from "./lock.ts";

/** A folder of this process, for sockets: for this user alone. It goes with its contents. */
export interface OwnFolder extends AsyncDisposable {
  readonly path: string;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What they are called: a prefix, and the letters of mkdtemp(3). */
const NAME = /^shrinker(-[a-z]+)?-[A-Za-z0-9_]{6}$/;
/** Locked for as long as the folder's process lives. */
const LOCK = "own-folder.lock";
/** Entries of the parent that are looked at, and folders that are removed, each time that one is made. */
const MAX_LOOKED_AT = 10_000;
const MAX_REMOVED = 64;

/**
 * Makes one, and removes those that processes have left behind which were killed.
 * @param prefix `shrinker-`, or `shrinker-WORD-`
 */
export async function makeOwnFolder(parent: string, prefix = "shrinker-"): Promise<OwnFolder> {
  const path = await mkdtemp(join(parent, prefix));
  const lock = await lockFolder(path);
  await sweep(parent).catch(() => {});
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true }).finally(() => lock?.release());
    },
  };
}

/** Under another name first: nobody is to see a lock that is not locked yet. Undefined where the runtime can't lock. */
async function lockFolder(path: string): Promise<Lock | undefined> {
  const locking = join(path, "locking");
  const lock = await takeLock(locking, true, "").catch(() => undefined);
  await (lock ? rename(locking, join(path, LOCK)) : rm(locking, { force: true }));
  return lock;
}

/** A folder without the lock is left alone: who knows whose it is. */
async function sweep(parent: string): Promise<void> {
  let looked = 0;
  let removed = 0;
  for await (const entry of await opendir(parent)) {
    if (++looked > MAX_LOOKED_AT || removed >= MAX_REMOVED) return;
    if (entry.isDirectory() && NAME.test(entry.name) && (await removeDead(join(parent, entry.name)))) removed++;
  }
}

/** Whether it was one of a process that is dead, and is gone. Nobody else can put anything into a folder that is this user's alone. */
async function removeDead(path: string): Promise<boolean> {
  let lock: Lock | undefined;
  try {
    const folder = await lstat(path);
    const own = folder.isDirectory() && folder.uid === process.getuid?.() && (folder.mode & 0o077) === 0;
    if (!own || !(await lstat(join(path, LOCK))).isFile()) return false;
    lock = await takeLock(join(path, LOCK), true, "");
    await rm(path, { recursive: true, force: true });
    return true;
  } catch {
    return false;
  } finally {
    await lock?.release();
  }
}
