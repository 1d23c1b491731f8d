import { PrefixTable, PrefixTableBuilder } from "../index/prefix-table.ts";
import { mergeRuns } from "../store/merge.ts";

/** Digests are sorted in once there are so many, or an eighth of those that are there. */
const MIN_ADDED = 1 << 15;
const GROWTH = 8;

/**
 * Collects distinct digests for a table: unlike its builder, takes no memory for those that come again. While it grows
 * it takes at most 45 bytes a digest (what is there, an eighth as much, and both merged), afterwards 20.
 */
export class ContentSet {
  #table = new PrefixTable(new Uint8Array(0), 0);
  #builder = new PrefixTableBuilder(0);
  #added = 0;

  add(digest: Uint8Array, at: number): void {
    if (this.#table.has(digest, at)) return;
    this.#builder.add(digest, at);
    if (++this.#added >= Math.max(MIN_ADDED, this.#table.count / GROWTH)) this.#merge();
  }

  /** What was added so far. */
  table(): PrefixTable {
    if (this.#added > 0) this.#merge();
    return this.#table;
  }

  #merge(): void {
    this.#table = mergeRuns(this.#table, this.#builder.build());
    this.#added = 0;
  }
}
