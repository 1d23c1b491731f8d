import { readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fileError, IntegrityError, type ShrinkerError } from "../errors.ts";
import { PrefixTable, PrefixTableBuilder } from "../index/prefix-table.ts";
import { mergeRuns } from "./merge.ts";
import type { Place } from "./pack-writer.ts";
import { PLACE_BYTES, type Run, readRun, runName, runRange, writeRun } from "./run-file.ts";

/** A site's runs are merged until each is at least this many times as long as the next. */
const MERGE_RATIO = 3;
const OPEN_ATTEMPTS = 4;
/** A place is the group's offset times this, and the slot in the group. */
const SLOTS = 0x1_0000;
/** A run of nothing. */
export const NO_PLACES = new PrefixTable(new Uint8Array(0), PLACE_BYTES);

/**
 * Where each content of a store lies: sorted runs of digests, each a file that is written once and kept in RAM, 28 bytes a
 * digest. New contents make a new run; runs of a like length are merged, so there are few of them (a log-structured merge:
 * O'Neil et al., Acta Informatica 1996). What the runs don't have is found by scanning the packs behind what they cover.
 */
export class DigestIndex {
  readonly #folder: string;
  #runs: Run[];
  /** Runs that this process has written: their digests are looked up elsewhere while it runs. */
  #added: Run[] = [];
  /** What `find` has found. */
  pack = 0;
  offset = 0;
  slot = 0;

  private constructor(folder: string, runs: Run[]) {
    this.#folder = folder;
    this.#runs = runs;
  }

  /**
   * Reads the runs of a folder. Where one is damaged or missing the index is empty, and `covered` as well, so that all is
   * found by scanning.
   * @param lost told why
   */
  static async open(folder: string, lost: (error: Error) => void): Promise<DigestIndex> {
    for (let attempt = 1; ; attempt++) {
      const names = await listRuns(folder);
      try {
        const runs: Run[] = [];
        let due = 1;
        for (const { name, from, to } of names) {
          if (from !== due) throw new IntegrityError(`"${folder}" lacks a run before "${name}"`);
          runs.push({ from, to, ...(await readRun(join(folder, name))) });
          due = to + 1;
        }
        return new DigestIndex(folder, runs);
      } catch (error) {
        if ((error as ShrinkerError).code === "refused") throw error;
        // A writer may have merged the runs meanwhile.
        if (attempt < OPEN_ATTEMPTS && changed(names, await listRuns(folder))) continue;
        lost(error as Error);
        return new DigestIndex(folder, []);
      }
    }
  }

  /** Digests that are searched; those that several runs have count several times. */
  get count(): number {
    return this.#runs.reduce((sum, { table }) => sum + table.count, 0);
  }

  get runs(): readonly Run[] {
    return this.#runs;
  }

  /** Of each pack, up to where its groups are in the index. */
  covered(): Map<number, number> {
    const covered = new Map<number, number>();
    for (const run of this.#runs) {
      for (const [pack, end] of run.covered) covered.set(pack, Math.max(end, covered.get(pack) ?? 0));
    }
    return covered;
  }

  /** Whether the digest at `digests[at]` is held; `pack`, `offset` and `slot` tell where. */
  find(digests: Uint8Array, at: number): boolean {
    // The newest first: it has what was asked for last.
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const { table } = this.#runs[i]!;
      const found = table.find(digests, at);
      if (found < 0) continue;
      const offset = table.offsetAt(found);
      this.pack = table.fileAt(found);
      this.slot = offset % SLOTS;
      this.offset = (offset - this.slot) / SLOTS;
      return true;
    }
    return false;
  }

  /**
   * Adds a run; it lasts once the promise resolves.
   * @param searched false for what the caller looks up itself: the run is then not kept in RAM
   */
  async add(table: PrefixTable, covered: ReadonlyMap<number, number>, searched: boolean): Promise<void> {
    const number = this.#next;
    const run = await this.#write({ from: number, to: number, covered, table });
    if (searched) this.#runs.push(run);
    else this.#added.push({ ...run, table: NO_PLACES });
  }

  /** Merges runs of a like length. To be called where nobody waits: merging ten millions of digests takes seconds. */
  async merge(): Promise<void> {
    for (const added of this.#added.splice(0)) {
      this.#runs.push({ ...added, ...(await readRun(join(this.#folder, runName(added)))) });
      await this.#mergeLast();
    }
  }

  async #mergeLast(): Promise<void> {
    for (;;) {
      const last = this.#runs.at(-1);
      const before = this.#runs.at(-2);
      if (!last || !before || before.table.count >= last.table.count * MERGE_RATIO) return;
      const covered = new Map(before.covered);
      for (const [pack, end] of last.covered) covered.set(pack, Math.max(end, covered.get(pack) ?? 0));
      const table = mergeRuns(before.table, last.table);
      const merged = await this.#write({ from: before.from, to: last.to, covered, table });
      this.#runs.splice(-2, 2, merged);
      for (const old of [before, last]) await remove(join(this.#folder, runName(old)));
    }
  }

  /** Puts one run in the place of all that a folder has: it is what the index is from now on. */
  static async replace(folder: string, table: PrefixTable, covered: ReadonlyMap<number, number>): Promise<void> {
    const old = await listRuns(folder, true);
    const to = old.reduce((most, run) => Math.max(most, run.to), 0) + 1;
    await writeRun(join(folder, runName({ from: 1, to })), { covered, table });
    for (const { name } of old) await remove(join(folder, name));
  }

  /** For a run: to be filled by `put`. */
  static builder(): PrefixTableBuilder {
    return new PrefixTableBuilder(PLACE_BYTES);
  }

  static put(builder: PrefixTableBuilder, digests: Uint8Array, at: number, place: Place, slot: number): void {
    builder.add(digests, at, place.pack, place.offset * SLOTS + slot);
  }

  /** Adds a run to this process's view alone. */
  addInMemory(table: PrefixTable): void {
    this.#runs.push({ from: this.#next, to: this.#next, covered: new Map(), table });
  }

  async #write(run: Run): Promise<Run> {
    await writeRun(join(this.#folder, runName(run)), run);
    return run;
  }

  get #next(): number {
    return ((this.#added.at(-1) ?? this.#runs.at(-1))?.to ?? 0) + 1;
  }
}

/** The names of runs, in order; without those that a merge has made superfluous and did not get to remove. */
async function listRuns(folder: string, all = false): Promise<{ name: string; from: number; to: number }[]> {
  const names = await readdir(folder).catch((error) => {
    throw fileError("Cannot read", folder, error);
  });
  const runs = names.flatMap((name) => {
    const range = runRange(name);
    return range ? [{ name, ...range }] : [];
  });
  runs.sort((a, b) => a.to - b.to || b.from - a.from);
  if (all) return runs;
  return runs.filter((run) => !runs.some((o) => o !== run && o.from <= run.from && o.to >= run.to));
}

function changed(before: readonly { name: string }[], after: readonly { name: string }[]): boolean {
  return before.map(({ name }) => name).join() !== after.map(({ name }) => name).join();
}

async function remove(path: string): Promise<void> {
  await unlink(path).catch(() => {});
}
