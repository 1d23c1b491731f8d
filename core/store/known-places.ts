import type { ShrinkerError } from "../errors.ts";
import { PREFIX_SIZE, type PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import type { Layout } from "./layout.ts";
import { recover } from "./recover.ts";
import { type Expected, packsOf } from "./survey.ts";

/** A place's offset in a table is that of the group times this, and the slot in it (run-file.ts). */
const SLOTS = 0x1_0000;

/** What was found at a place. */
export const FOUND = { NOTHING: 0, DAMAGED: 1, WHOLE: 2 } as const;

/**
 * All places that a store knows of when it is opened, the index's and those of groups behind it; and what was found there, as the
 * packs are read. 29 bytes a content; 57 while an index that is damaged is made again.
 */
export class KnownPlaces {
  /** The newest comes last. */
  readonly #tables: readonly PrefixTable[];
  readonly #found: readonly Uint8Array[];
  /** Up to where the index has each pack's groups. */
  readonly indexed: ReadonlyMap<number, number>;
  /** The same with what was found behind. */
  readonly covered: ReadonlyMap<number, number>;
  /** Why there was no index to be had. */
  readonly lost: ShrinkerError | undefined;
  /** The pack with the highest number. */
  readonly #last: number;

  private constructor(
    tables: readonly PrefixTable[],
    indexed: ReadonlyMap<number, number>,
    covered: ReadonlyMap<number, number>,
    lost: ShrinkerError | undefined,
    last: number,
  ) {
    this.#tables = tables;
    this.#found = tables.map(({ count }) => new Uint8Array(count));
    this.indexed = indexed;
    this.covered = covered;
    this.lost = lost;
    this.#last = last;
  }

  /** Where a pack can't be read, what is not in the index is not known. Rejects with `refused` for what has another version. */
  static async open(layout: Layout): Promise<KnownPlaces> {
    let lost: ShrinkerError | undefined;
    const index = await DigestIndex.open(layout.index, (error) => {
      lost = error as ShrinkerError;
    });
    const indexed = index.covered();
    const last = (await packsOf(layout.packs)).at(-1) ?? 0;
    const recovered = await recover(layout.packs, indexed, () => {}).catch((error) => {
      if ((error as ShrinkerError).code !== "input") throw error;
    });
    const run = recovered?.run;
    const tables = index.runs.map(({ table }) => table);
    const covered = new Map([...indexed, ...(run?.covered ?? [])]);
    return new KnownPlaces(run ? [...tables, run.table] : tables, indexed, covered, lost, last);
  }

  /** What is known of a pack before it is read. Without an index, a write that was cut off is told from damage in the last one only. */
  expected(pack: number): Expected {
    return {
      known: () => this.#offsets(pack),
      promised: this.indexed.get(pack) ?? 0,
      mayTear: pack === this.#last || (this.lost === undefined && this.indexed.size > 0),
    };
  }

  /** Notes what was found at a place. Returns whether the digest at `digests[at]` is known at all, there or elsewhere. */
  note(digests: Uint8Array, at: number, pack: number, offset: number, slot: number, found: number): boolean {
    let known = false;
    for (let i = 0; i < this.#tables.length; i++) {
      const table = this.#tables[i]!;
      const record = table.find(digests, at);
      if (record < 0) continue;
      known = true;
      const here = table.fileAt(record) === pack && table.offsetAt(record) === offset * SLOTS + slot;
      if (here) this.#found[i]![record] = found;
    }
    return known;
  }

  /** What was found where a reader looks for the digest at `digests[at]`; undefined where it looks nowhere. */
  found(digests: Uint8Array, at: number): number | undefined {
    for (let i = this.#tables.length - 1; i >= 0; i--) {
      const record = this.#tables[i]!.find(digests, at);
      if (record >= 0) return this.#found[i]![record]!;
    }
    return undefined;
  }

  /** Calls for each place where nothing was found. */
  eachMissing(visit: (pack: number, offset: number) => void): void {
    for (const [i, table] of this.#tables.entries()) {
      const found = this.#found[i]!;
      for (let record = 0; record < found.length; record++) {
        if (found[record] !== FOUND.NOTHING) continue;
        visit(table.fileAt(record), Math.floor(table.offsetAt(record) / SLOTS));
      }
    }
  }

  /** The places in some packs, as a run; undefined where there are none. */
  select(packs: ReadonlySet<number>): PrefixTable | undefined {
    if (packs.size === 0) return undefined;
    const builder = DigestIndex.builder();
    for (const table of [...this.#tables].reverse()) {
      for (let record = 0; record < table.count; record++) {
        const pack = table.fileAt(record);
        if (packs.has(pack))
          builder.add(table.records, table.payloadAt(record) - PREFIX_SIZE, pack, table.offsetAt(record));
      }
    }
    return builder.build();
  }

  /** Where groups of a pack begin, ascending. */
  #offsets(pack: number): number[] {
    const offsets = new Set<number>();
    for (const table of this.#tables) {
      for (let record = 0; record < table.count; record++) {
        if (table.fileAt(record) === pack) offsets.add(Math.floor(table.offsetAt(record) / SLOTS));
      }
    }
    return [...offsets].sort((a, b) => a - b);
  }
}
