import { lstat, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileError, ShrinkerError, systemCode } from "../../errors.ts";
import { openAside } from "../../files/aside.ts";
import type { StreamTarget } from "../machine.ts";
import { fileSink } from "./file-sink.ts";
import { checkStreamName } from "./name.ts";

export interface DirectoryOptions {
  /** Replaces files that have a stream's name already. */
  readonly force?: boolean;
  /** Whether to compute the SHA-256 of the plain bytes; the default. */
  readonly digest?: boolean;
}

/**
 * Puts each stream into a folder, which is made if it is missing, as a file of the stream's name. Until it is committed,
 * a file is hidden beside it and readable by its owner only: it holds a guest's memory or disk.
 *
 * Free space is not looked at beforehand: how much of a stream is holes is known only at its end.
 */
export function directoryTarget(directory: string, options: DirectoryOptions = {}): StreamTarget {
  const force = options.force ?? false;
  return {
    async open(info) {
      const path = join(directory, checkStreamName(info.name));
      try {
        await mkdir(directory, { recursive: true });
      } catch (error) {
        const why = systemCode(error) === "EEXIST" ? Object.assign(new Error(), { code: "ENOTDIR" }) : error;
        throw fileError("Cannot make the folder", directory, why);
      }
      await checkFree(path, force);
      const aside = await openAside(directory, info.name, force);
      return fileSink(aside, info, options.digest ?? true);
    },
  };
}

/** Told now rather than after hours of copying; what is decisive is whether the name is free at the end. */
async function checkFree(path: string, force: boolean): Promise<void> {
  const there = await lstat(path).catch((error) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw fileError("Cannot write", path, error);
  });
  if (!there) return;
  if (there.isDirectory()) {
    throw new ShrinkerError("exists", `Cannot write "${path}": it is a directory; remove it, or choose another name`);
  }
  if (!force) {
    throw new ShrinkerError("exists", `Cannot write "${path}": it exists already; remove it, or pass --force`);
  }
}
