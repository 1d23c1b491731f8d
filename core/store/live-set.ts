import { PREFIX_SIZE, PrefixTable, PrefixTableBuilder } from "../index/prefix-table.ts";
import { mergeRuns } from "./merge.ts";

/** What is gathered is merged into the table once it is this share of it, or this many digests. */
const GATHER_SHARE = 1 / 8;
const GATHER_LEAST = 1 << 16;

/** The contents that something needs, each with the pack that it is kept in. 22 bytes each. */
export class LiveContents {
  readonly #table: PrefixTable;
  /** 0 where none has been found yet. */
  readonly #packs: Uint16Array;

  constructor(table: PrefixTable) {
    this.#table = table;
    this.#packs = new Uint16Array(table.count);
  }

  get count(): number {
    return this.#table.count;
  }

  /** The number of the digest at `digests[at]`, or -1 where nothing needs it. */
  find(digests: Uint8Array, at: number): number {
    return this.#table.find(digests, at);
  }

  /** The pack that a content is kept in, or 0. */
  packOf(number: number): number {
    return this.#packs[number]!;
  }

  keep(number: number, pack: number): void {
    this.#packs[number] = pack;
  }

  /** A pack keeps nothing. */
  release(pack: number): void {
    const packs = this.#packs;
    for (let number = 0; number < packs.length; number++) if (packs[number] === pack) packs[number] = 0;
  }

  /** How many of the digests in `digests`, which have `size` bytes each, are in no pack. */
  lacking(digests: Uint8Array, size: number): number {
    let lacking = 0;
    for (let at = 0; at < digests.length; at += size) {
      const number = this.find(digests, at);
      if (number < 0 || this.#packs[number] === 0) lacking++;
    }
    return lacking;
  }
}

/**
 * Gathers the contents that something needs. What several need is there once: it takes at most 45 bytes a distinct digest, and
 * 2.6 MB.
 */
export class LiveSet {
  #table = new PrefixTable(new Uint8Array(0), 0);
  readonly #builder = new PrefixTableBuilder(0);
  #gathered = 0;

  /** @param size bytes of a digest in `digests`: 32, or 20 of prefixes */
  add(digests: Uint8Array, size: number): void {
    for (let at = 0; at + PREFIX_SIZE <= digests.length; at += size) {
      if (this.#table.has(digests, at)) continue;
      this.#builder.add(digests, at);
      this.#gathered++;
      if (this.#gathered >= Math.max(GATHER_LEAST, this.#table.count * GATHER_SHARE)) this.#merge();
    }
  }

  /** All of them; nothing can be added afterwards. */
  take(): LiveContents {
    this.#merge();
    return new LiveContents(this.#table);
  }

  #merge(): void {
    this.#table = mergeRuns(this.#table, this.#builder.build());
    this.#gathered = 0;
  }
}
