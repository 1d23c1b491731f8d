import { stat } from "node:fs/promises";
import { DIGEST_SIZE } from "../content/page.ts";
import { fileError, IntegrityError } from "../errors.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import { checkPack, listPacks, MAX_PACKS, packPath, scanPack } from "./pack.ts";

/** What the packs hold that the index does not have, and the other way round. */
export interface Recovered {
  /** Undefined where it has all. */
  readonly run: { table: PrefixTable; covered: Map<number, number> } | undefined;
  /** Packs that have less than the index says, and up to where their groups are whole: 0 of one that is gone. */
  readonly short: ReadonlyMap<number, number>;
  /** The highest number of a pack that is there, or was, and up to where it may be appended to: 0 where it may not. Undefined where there is none. */
  readonly last: { number: number; end: number } | undefined;
}

const REMEDY = "shrinker verify tells what that harms";

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
  const short = new Map<number, number>();
  let last: Recovered["last"];
  // No index could name others.
  const there = new Set((await listPacks(folder)).filter((pack) => pack >= 1 && pack <= MAX_PACKS));
  for (const pack of there) {
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
    if (size < start) {
      short.set(pack, await wholeOf(path));
      damaged(new IntegrityError(`"${path}" is cut short: it has ${size} bytes of at least ${start}; ${REMEDY}`));
    }
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
    // What follows may be a write that was cut off. Without an index it may as well be damage, and good groups behind that.
    const whole = start > 0 || read.end === read.size;
    last = { number: pack, end: sound && whole ? read.end : 0 };
  }
  for (const pack of covered.keys()) {
    if (there.has(pack)) continue;
    short.set(pack, 0);
    lost(new IntegrityError(`"${packPath(folder, pack)}" is gone; ${REMEDY}`));
    // Another one of its number would be taken for it.
    if (pack > (last?.number ?? 0)) last = { number: pack, end: 0 };
  }
  return { short, run: found.size > 0 ? { table: builder.build(), covered: found } : undefined, last };
}

/** Up to where a pack's groups are whole. */
async function wholeOf(path: string): Promise<number> {
  const read = { end: 0, size: 0 };
  try {
    for await (const _ of scanPack(path, 0, read));
  } catch (error) {
    if (!(error instanceof IntegrityError)) throw error;
  }
  return read.end;
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
}
