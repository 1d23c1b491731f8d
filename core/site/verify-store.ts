import { abortReason, ShrinkerError } from "../errors.ts";
import { lockForReading } from "../store/exclusive.ts";
import { listHolds } from "../store/holds.ts";
import { FOUND, type KnownPlaces } from "../store/known-places.ts";
import { type Layout, openLayout, readIdentity } from "../store/layout.ts";
import { type PacksReport, type VerifyOptions, verifyPacks } from "../store/verify.ts";
import { listSnapshots } from "./manifest.ts";
import { holdNeed, type Need, snapshotNeed } from "./needs.ts";

/** What of a snapshot, or a hold, is in the store. */
export interface NeedReport {
  readonly kind: "snapshot" | "hold";
  readonly name: string;
  /** Contents that it names. */
  readonly contents: number;
  /** Of those: that the store does not have, and that lie where something is damaged. */
  readonly lacking: number;
  readonly damaged: number;
  /** Why it can't be read to its end. */
  readonly error: ShrinkerError | undefined;
}

export interface VerifyReport extends PacksReport {
  readonly needs: readonly NeedReport[];
  /** Whether nothing is damaged, missing or unreadable. */
  readonly clean: boolean;
}

export interface VerifyStoreOptions extends VerifyOptions {
  readonly domain: string;
  /** The time that holds expire by, in milliseconds since 1970. */
  readonly now: number;
}

/**
 * Checks a domain's part of a store, which may be written to meanwhile: packs, index, snapshots, and holds that have not expired.
 * Takes the memory of `verifyPacks`, and while a hold is looked at 20 bytes for each content of it. Rejects with `input` for what is
 * no store, `refused` where it is pruned or has another version, `integrity` where it does not say who it is.
 */
export async function verifyStore(dir: string, options: VerifyStoreOptions): Promise<VerifyReport> {
  const { domain, now, signal } = options;
  const layout = await openLayout(dir, domain, false);
  await readIdentity(layout);
  const lock = await lockForReading(dir, layout);
  try {
    // Before the index: what they name is in the packs by now.
    const needs = await listNeeds(layout, now);
    const { report, places } = await verifyPacks(layout, options);
    const reports: NeedReport[] = [];
    const notes = [...report.notes];
    for (const { need, identity } of needs) {
      if (signal?.aborted) throw abortReason(signal);
      const checked = await checkNeed(need, places);
      if (identity === (await need.identity())) reports.push(checked);
      else notes.push(`The ${need.kind} "${need.name}" was replaced or removed meanwhile: verify again to check it`);
    }
    const harmed = reports.some(({ lacking, damaged, error }) => error || lacking + damaged > 0);
    const clean = !harmed && report.damaged.length + report.runs.length + report.misplaced === 0;
    return { ...report, notes, needs: reports, clean };
  } finally {
    await lock.release();
  }
}

async function listNeeds(layout: Layout, now: number): Promise<{ need: Need; identity: string | undefined }[]> {
  const holds = (await listHolds(layout)).filter(({ expires }) => expires > now);
  const needs = [
    ...(await listSnapshots(layout)).map((name) => snapshotNeed(layout, name)),
    ...holds.map(({ name }) => holdNeed(layout, name)),
  ];
  return Promise.all(needs.map(async (need) => ({ need, identity: await need.identity() })));
}

async function checkNeed(need: Need, places: KnownPlaces): Promise<NeedReport> {
  const sum = { contents: 0, lacking: 0, damaged: 0 };
  let error: ShrinkerError | undefined;
  try {
    await need.visit((digests, size) => {
      for (let at = 0; at < digests.byteLength; at += size) {
        const found = places.found(digests, at);
        sum.contents++;
        if (found === undefined) sum.lacking++;
        else if (found !== FOUND.WHOLE) sum.damaged++;
      }
    });
  } catch (thrown) {
    if (!(thrown instanceof ShrinkerError)) throw thrown;
    error = thrown;
  }
  return { kind: need.kind, name: need.name, ...sum, error };
}
