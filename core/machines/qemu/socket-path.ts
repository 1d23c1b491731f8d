import { stat } from "node:fs/promises";
import { fileError, isMissing, ShrinkerError } from "../../errors.ts";

/** `sun_path` of Linux has 108 bytes, the last of them zero. QEMU refuses longer names; others cut them without a word. */
const MAX_PATH_BYTES = 107;

/** Throws `usage` for what can't be a unix socket's path. */
export function checkSocketPath(path: string): void {
  const length = Buffer.byteLength(path);
  if (path === "" || path.includes("\0"))
    throw new ShrinkerError("usage", "Cannot use an empty path, or one with a zero byte, as a socket's");
  if (length > MAX_PATH_BYTES) {
    throw new ShrinkerError(
      "usage",
      `Cannot use "${path}": a socket's path may have ${MAX_PATH_BYTES} bytes, this one has ${length}; choose a shorter one`,
    );
  }
}

/**
 * Which socket there is at a path: a QEMU that is started again makes another one. Undefined where there is none; rejects with
 * `input` where that can't be told.
 */
export async function socketIdentity(path: string): Promise<string | undefined> {
  try {
    const { dev, ino, mtimeMs } = await stat(path);
    // Not every runtime gives fractions, and another one may ask the next time.
    return `${dev}-${ino}-${Math.floor(mtimeMs)}`;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw fileError("Cannot look at", path, error);
  }
}
