import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { abortReason, fileError } from "../core/errors.ts";
import { openFifo, sync, syncFolder } from "./fd.ts";
import { publishNew } from "./publish.ts";
import { closeStdout, reserveStdout, STDOUT } from "./stdout.ts";

/** An open file for a bundle. Neither call is made while a write is under way. */
export interface Target {
  readonly fd: number;
  /** Makes the bytes last and gives them their name. Calls `last` when it can still be called off: it may throw. */
  finish(last: () => void): Promise<void>;
  /** Closes; removes a new file that has no name yet. Never rejects; does nothing more once closed. */
  discard(): Promise<void>;
}

const { O_WRONLY, O_CREAT, O_EXCL, O_NOCTTY } = fs.constants;
const open = promisify(fs.open);

/**
 * Opens what a bundle is written to: `-` is stdout, devices and FIFOs are written in place, all else is a new file.
 * Throws `exists` unless `force`, `input`, or the signal's reason.
 */
export async function openTarget(path: string, force: boolean, signal: AbortSignal): Promise<Target> {
  if (path === "-") {
    reserveStdout();
    return inPlace(STDOUT, closeStdout);
  }
  try {
    const there = fs.lstatSync(path, { throwIfNoEntry: false });
    if (there === undefined) return await createFile(path, force);
    if (there.isSymbolicLink() && !fs.existsSync(path) && !force) throw { code: "EEXIST" };
    const stat = fs.statSync(path);
    if (stat.isDirectory()) throw { code: "EISDIR" };
    if (stat.isFIFO()) {
      const fd = await openFifo(path, O_WRONLY, signal);
      if (signal.aborted) {
        fs.closeSync(fd);
        throw abortReason(signal);
      }
      return inPlace(fd);
    }
    // For a block device O_EXCL means: not while it is mounted.
    if (stat.isBlockDevice()) return inPlace(await open(path, O_WRONLY | O_EXCL));
    if (stat.isCharacterDevice()) return inPlace(await open(path, O_WRONLY | O_NOCTTY));
    if (!force) throw { code: "EEXIST" };
    // A link stays, what it leads to is replaced.
    return await createFile(fs.realpathSync(path), true);
  } catch (error) {
    throw fileError("Cannot write", path, error);
  }
}

function inPlace(fd: number, closeFd = () => fs.closeSync(fd)): Target {
  const close = once(closeFd);
  return {
    fd,
    async finish(last) {
      try {
        await sync(fd);
        last();
      } finally {
        close();
      }
    },
    discard: async () => close(),
  };
}

function once(call: () => void): () => void {
  let done = false;
  return () => {
    if (!done) call();
    done = true;
  };
}

/** A file written aside under a hidden name, in the same folder, readable by its owner alone. */
async function createFile(path: string, force: boolean): Promise<Target> {
  const folder = dirname(path);
  const unfinished = join(folder, `.shrinker-${randomBytes(8).toString("hex")}.partial`);
  const fd = await open(unfinished, O_WRONLY | O_CREAT | O_EXCL, 0o600).catch((error) => {
    throw fileError("Cannot create a file in", folder, error);
  });
  const close = once(() => fs.closeSync(fd));
  const discard = async () => {
    close();
    await fs.promises.rm(unfinished, { force: true }).catch(() => {});
  };
  return {
    fd,
    discard,
    async finish(last) {
      try {
        await sync(fd);
        close();
        last();
        await (force ? fs.promises.rename(unfinished, path) : publishNew(unfinished, path));
      } catch (error) {
        await discard();
        throw error;
      }
      await syncFolder(folder);
    },
  };
}
