import { DIGEST_SIZE } from "../content/page.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import type { Store } from "../store/store.ts";
import { ContentSet } from "./content-set.ts";
import { readManifest } from "./manifest.ts";

/**
 * The contents that a snapshot's manifest names, as far as the store has them; and how many it lacks. Rejects as
 * `readManifest`.
 */
export async function listSnapshot(path: string, store: Store): Promise<{ table: PrefixTable; lacking: number }> {
  const set = new ContentSet();
  let lacking = 0;
  await readManifest(path, (digests) => {
    // Aligned, as the store compares words.
    const copy = new Uint8Array(digests);
    for (let i = 0; i < Math.floor(copy.length / DIGEST_SIZE); i++) {
      if (store.has(copy, i)) set.add(copy, i * DIGEST_SIZE);
      else lacking++;
    }
  });
  return { table: set.table(), lacking };
}
