import { DIGEST_SIZE, DIGEST_WORDS } from "../content/page.ts";
import { DigestTable } from "../index/digest-table.ts";
import { type PrefixTable, PrefixTableBuilder } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import type { Place } from "./pack-writer.ts";

/** Contents that lie together in a pack, or will. */
export interface RecentGroup {
  /** The number of the group's first content. */
  readonly first: number;
  /** Undefined until it is written. */
  place: Place | undefined;
  /** Where the next group of the pack begins. */
  end: number;
}

/**
 * What this process has added to a store: digests, numbered in the order of their arrival, and the groups that they are
 * in. 48 bytes a digest.
 */
export class RecentContents {
  readonly #table = new DigestTable();
  readonly #groups: RecentGroup[] = [];
  /** Numbers below this, and groups below that, are in a run of the index. */
  #indexed = 0;
  #indexedGroups = 0;

  get count(): number {
    return this.#table.next;
  }

  /** How many are in no run of the index yet. */
  get pending(): number {
    return this.count - this.#indexed;
  }

  /** The number of the digest at `words[at]`, or -1. */
  find(words: Int32Array, at: number): number {
    return this.#table.find(words, at);
  }

  add(words: Int32Array, at: number): number {
    return this.#table.add(words, at);
  }

  /** Begins a group with the next content. Its place is to be noted in what this returns. */
  begin(): RecentGroup {
    const group: RecentGroup = { first: this.count, place: undefined, end: 0 };
    this.#groups.push(group);
    return group;
  }

  /** Where a content lies; undefined while its group is not written. */
  place(number: number): { place: Place; slot: number } | undefined {
    let low = 0;
    let high = this.#groups.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#groups[middle]!.first <= number) low = middle + 1;
      else high = middle;
    }
    const group = this.#groups[low - 1];
    return group?.place && { place: group.place, slot: number - group.first };
  }

  /** All digests, without places. */
  table(): PrefixTable {
    const builder = new PrefixTableBuilder(0);
    const words = new Int32Array(DIGEST_WORDS);
    const digest = new Uint8Array(words.buffer);
    for (let number = 0; number < this.count; number++) {
      this.#table.read(number, words, 0);
      builder.add(digest, 0);
    }
    return builder.build();
  }

  /**
   * What no run of the index has yet, of the numbers below `to`, whose groups are written; and how far that covers each
   * pack. Undefined where there is nothing.
   */
  take(to: number): { table: PrefixTable; covered: Map<number, number> } | undefined {
    if (to <= this.#indexed) return undefined;
    const builder = DigestIndex.builder();
    const words = new Int32Array(DIGEST_WORDS);
    const digest = new Uint8Array(words.buffer, 0, DIGEST_SIZE);
    for (let number = this.#indexed; number < to; number++) {
      const { place, slot } = this.place(number)!;
      this.#table.read(number, words, 0);
      DigestIndex.put(builder, digest, 0, place, slot);
    }
    this.#indexed = to;
    const covered = new Map<number, number>();
    for (; this.#indexedGroups < this.#groups.length; this.#indexedGroups++) {
      const { first, place, end } = this.#groups[this.#indexedGroups]!;
      if (first >= to) break;
      covered.set(place!.pack, end);
    }
    return { table: builder.build(), covered };
  }
}
