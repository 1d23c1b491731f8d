import { readdir, unlink } from "node:fs/promises";
import { join } from "node:path";

const UNFINISHED = /\.[0-9a-f]{12}\.new$|^\..*\.shrinker-partial$|^\.shrinker-[0-9a-f]{16}\.partial$/;

/** Removes what writers that were interrupted have left behind. Only for who has locked out all that write there. Never rejects. */
export async function removeLeftovers(folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (UNFINISHED.test(name)) await unlink(join(folder, name)).catch(() => {});
    }
  }
}
