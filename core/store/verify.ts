import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { DIGEST_SIZE } from "../content/page.ts";
import { abortReason, type ShrinkerError } from "../errors.ts";
import { FOUND, KnownPlaces } from "./known-places.ts";
import type { Layout } from "./layout.ts";
import { checkGroups, type OpenedGroup, openGroups } from "./open-groups.ts";
import { packPath } from "./pack.ts";
import { readRun, runRange } from "./run-file.ts";
import { newSurvey, packsOf, surveyPack } from "./survey.ts";

/** A part of a pack that is damaged, missing, or can't be read. */
export interface PackDamage {
  readonly path: string;
  /** Where it begins. */
  readonly offset: number;
  /** Contents that are known to have been there. */
  contents: number;
  readonly why: string;
}

export interface RunDamage {
  readonly path: string;
  readonly why: string;
}

export interface PacksReport {
  readonly packs: number;
  readonly bytes: number;
  /** Contents that are right; one that lies in several places counts several times. */
  readonly contents: number;
  readonly damaged: readonly PackDamage[];
  /** Of the index, which can be made again. */
  readonly runs: readonly RunDamage[];
  /** Contents that the index lacks, or says to be where they are not. */
  readonly misplaced: number;
  /** What is no damage, but may be of interest. */
  readonly notes: readonly string[];
}

export interface VerifyOptions {
  /** Whether contents are decompressed and compared with their digests; else only checksums are. */
  readonly readData: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Damage to one pack, by where it lies. */
interface Region extends PackDamage {
  readonly end: number;
}

/**
 * Checks packs and index against each other. Returns what was found, and the places, for what needs them to be asked about. Takes
 * the memory of `KnownPlaces`, and 4 MiB; with `readData` 40 MiB. Rejects with `refused` for another version, `input` where packs
 * can't be listed.
 */
export async function verifyPacks(
  layout: Layout,
  options: VerifyOptions,
): Promise<{ report: PacksReport; places: KnownPlaces }> {
  const places = await KnownPlaces.open(layout);
  const packs = await packsOf(layout.packs);
  const regions = new Map<number, Region[]>();
  const notes: string[] = [];
  const sum = { bytes: 0, contents: 0, misplaced: 0 };
  for (const pack of packs) regions.set(pack, await verifyPack(layout, pack, places, options, sum, notes));
  for (const pack of places.covered.keys()) {
    if (regions.has(pack)) continue;
    const path = packPath(layout.packs, pack);
    regions.set(pack, [{ path, offset: 0, end: Number.POSITIVE_INFINITY, contents: 0, why: "it is missing" }]);
  }
  places.eachMissing((pack, offset) => {
    const region = regions.get(pack)?.find((region) => region.offset <= offset && offset < region.end);
    if (region) region.contents++;
    else sum.misplaced++;
  });
  const damaged = [...regions.values()].flat();
  const runs = places.lost ? await damagedRuns(layout.index, places.lost) : [];
  return { report: { packs: packs.length, ...sum, damaged, runs, notes }, places };
}

async function verifyPack(
  layout: Layout,
  pack: number,
  places: KnownPlaces,
  { readData, signal }: VerifyOptions,
  sum: { bytes: number; contents: number; misplaced: number },
  notes: string[],
): Promise<Region[]> {
  const path = packPath(layout.packs, pack);
  const regions: Region[] = [];
  const survey = newSurvey();
  const scanned = surveyPack(path, places.expected(pack), survey);
  const covered = places.covered.get(pack) ?? 0;
  try {
    for await (const group of readData ? openGroups(scanned) : checkGroups(scanned)) {
      if (signal?.aborted) throw abortReason(signal);
      const { bad, unknown } = note(places, pack, group);
      sum.contents += group.count - bad;
      // What a writer has added since the places were read is not known yet.
      if (group.offset < covered) sum.misplaced += unknown;
      if (!group.why) continue;
      const { offset, bytes, why } = group;
      regions.push({ path, offset, end: offset + bytes, contents: bad, why });
    }
  } catch (error) {
    const { code, message } = error as ShrinkerError;
    if (code !== "input") throw error;
    regions.push({ path, offset: survey.end, end: Number.POSITIVE_INFINITY, contents: 0, why: message });
  }
  sum.bytes += survey.size;
  for (const { offset, end, why } of survey.gaps) regions.push({ path, offset, end, contents: 0, why });
  if (survey.torn !== undefined) {
    notes.push(`"${path}" ends in ${survey.size - survey.torn} bytes of a write that was cut off, or still goes on`);
  }
  return regions.sort((a, b) => a.offset - b.offset);
}

/** Notes what was found of a group: how many contents are not right, and how many of the others the index does not know. */
function note(places: KnownPlaces, pack: number, group: OpenedGroup): { bad: number; unknown: number } {
  let bad = 0;
  let unknown = 0;
  for (let slot = 0; slot < group.count; slot++) {
    const right = group.right[slot] === 1;
    const found = right ? FOUND.WHOLE : FOUND.DAMAGED;
    const known = places.note(group.digests, slot * DIGEST_SIZE, pack, group.offset, slot, found);
    if (!right) bad++;
    else if (!known) unknown++;
  }
  return { bad, unknown };
}

/** Which runs keep an index from being used; `why` where each is right by itself. */
async function damagedRuns(folder: string, why: ShrinkerError): Promise<RunDamage[]> {
  const damaged: RunDamage[] = [];
  for (const name of (await readdir(folder).catch(() => [])).sort()) {
    if (!runRange(name)) continue;
    const path = join(folder, name);
    await readRun(path).catch((error) => damaged.push({ path, why: (error as Error).message }));
  }
  return damaged.length > 0 ? damaged : [{ path: folder, why: why.message }];
}
