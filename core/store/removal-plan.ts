import { DIGEST_SIZE } from "../content/page.ts";
import { abortReason, type ShrinkerError } from "../errors.ts";
import { PREFIX_SIZE, type PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import { KnownPlaces } from "./known-places.ts";
import type { Layout } from "./layout.ts";
import type { LiveContents } from "./live-contents.ts";
import { checkGroups } from "./open-groups.ts";
import { packPath } from "./pack.ts";
import { newSurvey, packsOf, surveyPack } from "./survey.ts";

/** A pack of whose bytes less are needed is written anew. Of what stays, at most a third of as much again is needless. */
const WORTH_KEEPING = 0.75;

/** What becomes of a pack. One that could not be read is left alone, whatever is in it. */
export type Fate = "keep" | "rewrite" | "remove" | "unreadable";

export interface PackPlan {
  readonly pack: number;
  readonly path: string;
  readonly fate: Fate;
  /** Bytes of the file, and those of groups that are needed. */
  readonly size: number;
  readonly live: number;
  /** Contents that can be read, and those of them that are needed and kept in no other pack. */
  readonly contents: number;
  readonly needed: number;
  /** Where something is damaged. */
  readonly damaged: boolean;
  /** From where on it is read, as surveys say it. */
  readonly starts: readonly number[];
  /** Up to where it has groups. */
  readonly end: number;
  /** Bytes behind that. */
  readonly torn: boolean;
  /** Whether some of them are in no index yet, and perhaps not lasting. */
  readonly recent: boolean;
  /** Where its contents lie; only of packs that stay, and until it is taken. */
  table: PrefixTable | undefined;
}

export interface RemovalPlan {
  /** Ascending. */
  readonly packs: readonly PackPlan[];
  /** Numbers that are taken. */
  readonly taken: ReadonlySet<number>;
  /** What the index says of packs that can't be read, which goes on. */
  readonly unread: { readonly table: PrefixTable | undefined; readonly covered: ReadonlyMap<number, number> };
}

export interface PlanOptions {
  /** Whether all packs are written anew. */
  readonly repack: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads all packs and decides what becomes of them. Contents of damaged groups count as not held. Takes 28 bytes a content for what
 * is known, and as many for each that stays.
 */
export async function planRemoval(layout: Layout, live: LiveContents, options: PlanOptions): Promise<RemovalPlan> {
  const places = await KnownPlaces.open(layout);
  const plans: PackPlan[] = [];
  // Where a content lies in two packs, a prune did not come to its end: the newer one is what it was about to keep.
  for (const pack of (await packsOf(layout.packs)).reverse()) {
    plans.unshift(await planPack(layout, pack, places, live, options));
  }
  const unreadable = new Set(plans.filter(({ fate }) => fate === "unreadable").map(({ pack }) => pack));
  const table = places.select(unreadable);
  if (table) {
    for (let record = 0; record < table.count; record++) {
      const number = live.find(table.records, table.payloadAt(record) - PREFIX_SIZE);
      if (number >= 0 && live.packOf(number) === 0) live.keep(number, table.fileAt(record));
    }
  }
  const covered = new Map([...places.covered].filter(([pack]) => unreadable.has(pack)));
  const taken = new Set([...plans.map(({ pack }) => pack), ...places.covered.keys()]);
  return { packs: plans, taken, unread: { table, covered } };
}

async function planPack(
  layout: Layout,
  pack: number,
  places: KnownPlaces,
  live: LiveContents,
  { repack, signal }: PlanOptions,
): Promise<PackPlan> {
  const path = packPath(layout.packs, pack);
  const survey = newSurvey();
  const expected = places.expected(pack);
  const builder = DigestIndex.builder();
  let damaged = false;
  let unreadable = false;
  const sum = { contents: 0, needed: 0, live: 0 };
  try {
    for await (const { offset, count, bytes, digests, why } of checkGroups(surveyPack(path, expected, survey))) {
      if (signal?.aborted) throw abortReason(signal);
      if (why) {
        damaged = true;
        continue;
      }
      let needed = 0;
      for (let slot = 0; slot < count; slot++) {
        DigestIndex.put(builder, digests, slot * DIGEST_SIZE, { pack, offset }, slot);
        const number = live.find(digests, slot * DIGEST_SIZE);
        if (number < 0 || live.packOf(number) !== 0) continue;
        live.keep(number, pack);
        needed++;
      }
      sum.contents += count;
      sum.needed += needed;
      sum.live += (bytes * needed) / count;
    }
  } catch (error) {
    if ((error as ShrinkerError).code !== "input") throw error;
    unreadable = true;
    live.release(pack);
  }
  damaged ||= survey.gaps.length > 0;
  const share = sum.contents === 0 ? 0 : sum.live / survey.end;
  const worth = !damaged && !repack && (share >= WORTH_KEEPING || sum.needed === sum.contents);
  const fate: Fate = unreadable ? "unreadable" : sum.needed === 0 ? "remove" : worth ? "keep" : "rewrite";
  return {
    pack,
    path,
    fate,
    ...sum,
    size: survey.size,
    damaged,
    starts: survey.starts,
    end: survey.end,
    torn: survey.torn !== undefined,
    recent: survey.end > expected.promised,
    table: fate === "keep" ? builder.build() : undefined,
  };
}
