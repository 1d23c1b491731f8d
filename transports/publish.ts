import { closeSync, promises as fs, openSync } from "node:fs";
import { systemCode } from "../core/errors.ts";

/** What `link` says where the file system, or a policy, has no hard links. */
const NO_LINKS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);

/**
 * Gives a finished file its name, which must be free: a file that appeared there meanwhile is never replaced (`EEXIST`).
 * `link` says so in one step; without hard links an empty file of ours takes the name first and is then replaced.
 * @param link for tests: the system call that may be missing
 */
export async function publishNew(unfinished: string, path: string, link = fs.link): Promise<void> {
  try {
    await link(unfinished, path);
  } catch (error) {
    if (!NO_LINKS.has(systemCode(error) ?? "")) throw error;
    closeSync(openSync(path, "wx", 0o600));
    return fs.rename(unfinished, path);
  }
  await fs.unlink(unfinished);
}
