import type { PrefixTable } from "../index/prefix-table.ts";

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
    for (let at = 0; at < digests.byteLength; at += size) {
      const number = this.find(digests, at);
      if (number < 0 || this.#packs[number] === 0) lacking++;
    }
    return lacking;
  }
}
