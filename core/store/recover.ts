import { stat } from "node:fs/promises";
import { DIGEST_SIZE } from "../content/page.ts";
import { fileError, IntegrityError } from "../errors.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import { checkPack, listPacks, MAX_PACKS, packPath, scanPack } from "./pack.ts";

/** What the packs hold that the index does not have. */
export interface Recovered {
  /** Undefined where it has all. */
  readonly run: { table: PrefixTable; covered: Map<number, number> } | undefined;
  /** The pack with the highest number, and up to where it may be appended to: 0 where it may not. Undefined where there is none. */
  readonly last: { number: number; end: number } | undefined;
}

/**
 * Scans the packs behind what the index covers: a writer that died had written groups, and not yet a run. Rejects with `refused`
 * for a pack of another version, `input` where one can't be read.
 * @param lost told what is damaged
 */
export async function recover(
  folder: string,
  covered: ReadonlyMap<number, number>,
  lost: (error: Error) => void,
): Promise<Recovered> {
  const builder = DigestIndex.builder();
  const found = new Map<number, number>();
  let last: Recovered["last"];
  for (const pack of await listPacks(folder)) {
    // No index could name it.
    if (pack < 1 || pack > MAX_PACKS) continue;
    const path = packPath(folder, pack);
    const start = covered.get(pack) ?? 0;
    const size = await sizeOf(path);
    const read = { end: start, size };
    let sound = true;
    const damaged = (error: unknown) => {
      // What is damaged gives nothing; the rest does.
      if (!(error instanceof IntegrityError)) throw error;
      sound = false;
      lost(error);
    };
    if (start > 0) await checkPack(path).catch(damaged);
    // Whatever followed would lie behind a hole.
    if (size < start) damaged(new IntegrityError(`"${path}" is cut short: it has ${size} bytes of at least ${start}`));
    if (size > start) {
      try {
        for await (const { offset, header, digests, whole } of scanPack(path, start, read)) {
          // Contents that are held are not stored again.
          if (!whole) continue;
          for (let slot = 0; slot < header.count; slot++) {
            DigestIndex.put(builder, digests, slot * DIGEST_SIZE, { pack, offset }, slot);
          }
        }
      } catch (error) {
        damaged(error);
      }
      if (read.end > start) found.set(pack, read.end);
    }
    last = { number: pack, end: sound ? read.end : 0 };
  }
  return { run: found.size > 0 ? { table: builder.build(), covered: found } : undefined, last };
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
}
