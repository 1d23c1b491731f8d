import { stat } from "node:fs/promises";
import { DIGEST_SIZE } from "../content/page.ts";
import { IntegrityError } from "../errors.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import { listPacks, packPath, scanPack } from "./pack.ts";

/** What the packs hold that the index does not have. */
export interface Recovered {
  /** Undefined where it has all. */
  readonly run: { table: PrefixTable; covered: Map<number, number> } | undefined;
  /** The pack with the highest number, and how much of it is right; undefined where there is none. */
  readonly last: { number: number; end: number } | undefined;
}

/** Scans the packs behind what the index covers: a writer that died had written groups, and not yet a run. */
export async function recover(
  folder: string,
  covered: ReadonlyMap<number, number>,
  lost: (error: Error) => void,
): Promise<Recovered> {
  const builder = DigestIndex.builder();
  const found = new Map<number, number>();
  let last: Recovered["last"];
  for (const pack of await listPacks(folder)) {
    const path = packPath(folder, pack);
    const start = covered.get(pack) ?? 0;
    const { size } = await stat(path);
    const read = { end: start, size };
    if (size > start) {
      try {
        for await (const { offset, header, digests } of scanPack(path, start, read)) {
          for (let slot = 0; slot < header.count; slot++) {
            DigestIndex.put(builder, digests, slot * DIGEST_SIZE, { pack, offset }, slot);
          }
        }
      } catch (error) {
        // A pack whose beginning was never written whole, or is damaged, gives nothing; the others do.
        if (!(error instanceof IntegrityError)) throw error;
        lost(error);
      }
      if (read.end > start) found.set(pack, read.end);
    }
    last = { number: pack, end: read.end };
  }
  return { run: found.size > 0 ? { table: builder.build(), covered: found } : undefined, last };
}
