import { readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Layout } from "./layout.ts";

/** Removes what writers that were interrupted have left behind. Only for who has locked all others out. Never rejects. */
export async function removeLeftovers(layout: Layout): Promise<void> {
  const unfinished = /\.[0-9a-f]{12}\.new$|^\..*\.shrinker-partial$|^\.shrinker-[0-9a-f]{16}\.partial$/;
  for (const folder of [layout.folder, layout.index, layout.snapshots, layout.holds]) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (unfinished.test(name)) await unlink(join(folder, name)).catch(() => {});
    }
  }
}
