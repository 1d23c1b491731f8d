import { open, unlink } from "node:fs/promises";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { abortReason, fileError, systemCode } from "../errors.ts";
import { syncFolder } from "../files/whole.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex, NO_PLACES } from "./digest-index.ts";
import type { Layout } from "./layout.ts";
import { removeLeftovers } from "./leftovers.ts";
import type { LiveContents } from "./live-contents.ts";
import { mergeRuns } from "./merge.ts";
import { openGroups } from "./open-groups.ts";
import { PACK_BYTES, packPath, syncPacks } from "./pack.ts";
import { freeNumbers } from "./pack-numbers.ts";
import { PackWriter } from "./pack-writer.ts";
import { type Regrouped, Regrouper } from "./regroup.ts";
import type { PackPlan, RemovalPlan } from "./removal-plan.ts";
import { newSurvey, surveyPack } from "./survey.ts";

/** zstd's, of contents whose neighbours went: about as fast as a disk. */
const REWRITE_LEVEL = 3;
/** zstd's, where the smallest packs are asked for: 12 takes twice as long, and makes programs and libraries no smaller. */
const REPACK_LEVEL = 9;

export interface RemovalOptions {
  readonly repack: boolean;
  /** Called before the first content is removed: from then on nobody may take what the store held for held. May be called again. */
  readonly removing: () => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

/** What was done. */
export interface Removed {
  /** Bytes of new packs. */
  readonly written: number;
  /** Contents that were needed, and turned out not to be what their digests say. */
  readonly lost: number;
}

/** Whether a plan removes contents that the store has, or seems to have. */
function removesContents({ packs }: RemovalPlan): boolean {
  return packs.some(
    ({ fate, contents, needed, damaged }) =>
      (fate === "rewrite" || fate === "remove") && (damaged || needed < contents),
  );
}

/**
 * Does what is planned, so that a crash at any moment leaves a store in which all that is needed is found: new packs last before
 * the index names them, and old ones go when it names them no more. Whoever calls it has locked all others out. Takes 56 bytes for
 * each content that stays. Rejects with `space` where there is no room for the new packs; then the old ones are still there.
 */
export async function carryOut(
  layout: Layout,
  plan: RemovalPlan,
  live: LiveContents,
  options: RemovalOptions,
): Promise<Removed> {
  const of = (fate: PackPlan["fate"]) => plan.packs.filter((pack) => pack.fate === fate);
  const rewritten = of("rewrite");
  if (removesContents(plan)) await options.removing();
  for (const { path, end } of of("keep").filter(({ torn }) => torn)) await cutOff(path, end);
  const first = freeNumbers(plan.taken, packsFor(rewritten));
  const writer = new PackWriter(layout.packs, first, 0);
  let lost = 0;
  let regrouped: Regrouped;
  const regrouper = new Regrouper(writer, options.repack ? REPACK_LEVEL : REWRITE_LEVEL);
  try {
    for (const pack of rewritten) lost += await rewrite(pack, live, regrouper, options.signal);
    regrouped = await regrouper.finish();
    if (lost > 0) await options.removing();
  } catch (error) {
    await regrouper.settled();
    await writer.close();
    // Whatever is left of them would only be read once more.
    for (let number = first; number <= writer.position.pack; number++) {
      await unlink(packPath(layout.packs, number)).catch(() => {});
    }
    throw error;
  }
  await writer.close();
  const kept = of("keep");
  const recent = kept.filter(({ recent }) => recent);
  await syncPacks(
    layout.packs,
    recent.map(({ pack }) => pack),
  );
  const covered = new Map([
    ...plan.unread.covered,
    ...kept.map(({ pack, end }) => [pack, end] as const),
    ...regrouped.covered,
  ]);
  const tables = [plan.unread.table, ...kept.map(takeTable), regrouped.table].filter((table) => table !== undefined);
  await DigestIndex.replace(layout.index, mergeAll(tables), covered);
  for (const { path } of [...rewritten, ...of("remove")]) await remove(path);
  await syncFolder(layout.packs);
  await removeLeftovers([layout.folder, layout.index, layout.snapshots, layout.holds]);
  const written = [...regrouped.covered.values()].reduce((sum, end) => sum + end, 0);
  return { written, lost };
}

/** At most. */
function packsFor(rewritten: readonly PackPlan[]): number {
  const contents = rewritten.reduce((sum, { needed }) => sum + needed, 0);
  return Math.ceil((contents * (PAGE_SIZE + 2 * DIGEST_SIZE)) / PACK_BYTES);
}

/** Puts what is needed of a pack into new ones. Returns how many of its contents were not what their digests say. */
async function rewrite(
  { pack, path, starts }: PackPlan,
  live: LiveContents,
  regrouper: Regrouper,
  signal: AbortSignal | undefined,
): Promise<number> {
  let lost = 0;
  const scanned = surveyPack(path, { known: () => starts, promised: 0, mayTear: true }, newSurvey());
  for await (const { count, digests, pages, right } of openGroups(scanned)) {
    if (signal?.aborted) throw abortReason(signal);
    for (let slot = 0; slot < count; slot++) {
      const number = live.find(digests, slot * DIGEST_SIZE);
      if (number < 0 || live.packOf(number) !== pack) continue;
      if (pages && right[slot] === 1) {
        regrouper.add(digests, pages, slot);
        live.keep(number, regrouper.pack);
      } else {
        live.keep(number, 0);
        lost++;
      }
    }
    await regrouper.room();
  }
  return lost;
}

/** Nobody else holds it then: merging takes the memory of all. */
function takeTable(plan: PackPlan): PrefixTable | undefined {
  const { table } = plan;
  plan.table = undefined;
  return table;
}

/** Of a place that several tables have, the last one counts. Takes the tables apart as it goes. */
function mergeAll(tables: PrefixTable[]): PrefixTable {
  let level = tables;
  while (level.length > 1) {
    const next: PrefixTable[] = [];
    while (level.length > 0) {
      const [older, newer] = level.splice(0, 2) as [PrefixTable, PrefixTable | undefined];
      next.push(newer ? mergeRuns(older, newer) : older);
    }
    level = next;
  }
  return level[0] ?? NO_PLACES;
}

async function cutOff(path: string, end: number): Promise<void> {
  try {
    await using handle = await open(path, "r+");
    await handle.truncate(end);
    await handle.sync();
  } catch (error) {
    throw fileError("Cannot write", path, error);
  }
}

async function remove(path: string): Promise<void> {
  await unlink(path).catch((error) => {
    if (systemCode(error) !== "ENOENT") throw fileError("Cannot remove", path, error);
  });
}
