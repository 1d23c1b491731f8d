import { randomBytes } from "node:crypto";
import { DIGEST_SIZE } from "../content/page.ts";
import { ShrinkerError } from "../errors.ts";
import { lockForReading, lockForRemoval } from "../store/exclusive.ts";
import { type Hold, listHolds, releaseHold } from "../store/holds.ts";
import { type Identity, type Layout, openLayout, readIdentity, writeIdentity } from "../store/layout.ts";
import { LiveContents } from "../store/live-contents.ts";
import { carryOut } from "../store/prune.ts";
import { retireLogs, visitReceived } from "../store/received.ts";
import { type PackPlan, planRemoval, type RemovalPlan } from "../store/removal-plan.ts";
import { ContentSet } from "./content-set.ts";
import { forgetSnapshot, listSnapshots } from "./manifest.ts";
import { holdNeed, type Need, snapshotNeed } from "./needs.ts";

export interface PruneOptions {
  readonly domain: string;
  /** Snapshots to forget. */
  readonly forget: readonly string[];
  /** Holds to end before their time. */
  readonly release: readonly string[];
  /** Whether all packs are written anew, as small as they get. */
  readonly repack: boolean;
  /** Milliseconds: what sessions brought or named that ended later than so long ago stays, too. */
  readonly keepReceived: number;
  /** Whether nothing is removed. */
  readonly dryRun: boolean;
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly signal?: AbortSignal | undefined;
}

export interface PruneReport {
  readonly forgotten: readonly string[];
  /** Holds that were ended, or had expired. */
  readonly released: readonly string[];
  /** Contents that nothing needs, and those that were damaged; bytes of the packs that went, less those written for them. */
  readonly removed: { readonly contents: number; readonly bytes: number };
  /** Packs that went, that were written anew, and that stay. */
  readonly packs: { readonly removed: number; readonly rewritten: number; readonly kept: number };
  /** What needs contents that the store does not have, or not any more. */
  readonly harmed: readonly { readonly kind: Need["kind"]; readonly name: string; readonly lacking: number }[];
  /** Packs that can't be read, and were left alone. */
  readonly unreadable: readonly string[];
}

/**
 * Removes from a store what no snapshot, no hold and no session of late needs. A crash at any moment leaves every other snapshot
 * whole, and another prune finishes the work. Takes at most 80 bytes of memory for each content of the store. Nothing is removed where it rejects with `input` for a
 * snapshot or hold that is not there, `refused` while others use the store, `integrity` where a snapshot or a hold is damaged, as
 * what that needs can't be told; with `space`, at most what was to be forgotten is.
 */
export async function pruneStore(dir: string, options: PruneOptions): Promise<PruneReport> {
  const { domain, dryRun } = options;
  const layout = await openLayout(dir, domain, false);
  const identity = await readIdentity(layout);
  const lock = await (dryRun ? lockForReading : lockForRemoval)(dir, layout);
  try {
    return await prune(layout, identity, options);
  } finally {
    await lock.release();
  }
}

async function prune(layout: Layout, identity: Identity, options: PruneOptions): Promise<PruneReport> {
  const { repack, dryRun, signal } = options;
  const since = options.now - options.keepReceived;
  const { needs, forgotten, released } = await listNeeds(layout, options);
  const live = await gather(layout, needs, since);
  const plan = await planRemoval(layout, live, { repack, signal });
  let written = plan.packs.reduce((sum, { fate, live }) => sum + (fate === "rewrite" ? Math.round(live) : 0), 0);
  let lost = 0;
  if (!dryRun) {
    for (const name of forgotten) await forgetSnapshot(layout, name);
    for (const name of released) await releaseHold(layout, name);
    const removing = async () => {
      await writeIdentity(layout, { site: identity.site, generation: randomBytes(16) });
      await retireLogs(layout, since);
    };
    ({ written, lost } = await carryOut(layout, plan, live, { repack, removing, signal }));
  }
  const harmed: PruneReport["harmed"][number][] = [];
  for (const need of needs) {
    let lacking = 0;
    await need.visit((digests, size) => {
      lacking += live.lacking(digests, size);
    });
    if (lacking > 0) harmed.push({ kind: need.kind, name: need.name, lacking });
  }
  return { forgotten, released, ...summarize(plan, written, lost), harmed };
}

/** What is needed, what is to be forgotten, and which holds end. */
async function listNeeds(layout: Layout, { forget, release, now }: PruneOptions) {
  const snapshots = await listSnapshots(layout);
  const holds = await listHolds(layout);
  const missing = forget.find((name) => !snapshots.includes(name));
  if (missing !== undefined) throw new ShrinkerError("input", `There is no snapshot "${missing}" in the store`);
  const unheld = release.find((name) => !holds.some((hold) => hold.name === name));
  if (unheld !== undefined) throw new ShrinkerError("input", `There is no hold "${unheld}" in the store`);
  const ends = ({ name, expires }: Hold) => expires <= now || release.includes(name);
  const needs: Need[] = [
    ...snapshots.filter((name) => !forget.includes(name)).map((name) => snapshotNeed(layout, name)),
    ...holds.filter((hold) => !ends(hold)).map(({ name }) => holdNeed(layout, name)),
  ];
  return { needs, forgotten: [...new Set(forget)], released: holds.filter(ends).map(({ name }) => name) };
}

/** All that is needed. Rejects where that can't be told. */
async function gather(layout: Layout, needs: readonly Need[], since: number): Promise<LiveContents> {
  const set = new ContentSet();
  const add = (digests: Uint8Array, size: number) => {
    for (let at = 0; at < digests.byteLength; at += size) set.add(digests, at);
  };
  for (const need of needs) {
    await need.visit(add).catch((error) => {
      if (!(error instanceof ShrinkerError)) throw error;
      const remedy = need.kind === "snapshot" ? `--forget ${need.name}` : `--release ${need.name}`;
      const message = `What the ${need.kind} "${need.name}" needs can't be told, so nothing is removed (${remedy} gives it up): ${error.message}`;
      throw new ShrinkerError(error.code, message, { cause: error });
    });
  }
  await visitReceived(layout, since, (digests) => add(digests, DIGEST_SIZE));
  return new LiveContents(set.table());
}

function summarize(
  { packs }: RemovalPlan,
  written: number,
  lost: number,
): Pick<PruneReport, "removed" | "packs" | "unreadable"> {
  const of = (...fates: PackPlan["fate"][]) => packs.filter(({ fate }) => fates.includes(fate));
  const going = of("remove", "rewrite");
  const gone = going.reduce((sum, { size }) => sum + size, 0);
  const contents = going.reduce((sum, { contents, needed }) => sum + contents - needed, 0) + lost;
  return {
    removed: { contents, bytes: gone - written },
    packs: { removed: of("remove").length, rewritten: of("rewrite").length, kept: of("keep", "unreadable").length },
    unreadable: of("unreadable").map(({ path }) => path),
  };
}
