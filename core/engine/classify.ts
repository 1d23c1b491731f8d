import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE, PAGE_WORDS } from "../content/page.ts";
import { looksIncompressible } from "../content/sample.ts";
import { xorPages } from "../content/xor.ts";
import type { SiteIndex } from "../index/site-index.ts";
import type { ContentFile } from "../store/content-file.ts";
import { MAX_BATCH_CONTENTS, OP } from "../wire/numbers.ts";
import type { Batch } from "./batch.ts";
import type { ContentKeeper } from "./keeper.ts";
import type { PastContents } from "./site.ts";

/**
 * An XOR is sent where at least this many of its 4096 bytes are zero. Others cost more than the page itself, which may
 * resemble something in the window (measured on streams of real guests: of a quarter, a half, three quarters and always,
 * a half was the best or within 1 % of it).
 */
const SIMILAR_BYTES = PAGE_SIZE / 2;

/** Contents sent by digest alone that the destination may still ask for. */
export interface KnownContents {
  /** How many more may be outstanding. */
  room(): number;
  add(number: number): void;
  /** The oldest number whose bytes are still to be kept, or infinity. */
  readonly oldest: number;
}

/** Noise stays out of the window where it is more than this share of about the last 64 contents. */
const NOISE_SHARE = 0.5;
const NOISE_MEMORY = 64;

/** What the destination holds from elsewhere, and what it may still ask for. */
export interface KnownSite {
  readonly past: PastContents | undefined;
  readonly index: SiteIndex | undefined;
  /** Undefined in a recording, of which nothing can be asked. */
  readonly known: KnownContents | undefined;
}

export interface ClassifierOptions {
  /** Given every new content, in the order of the numbers, before it is sent. */
  readonly keepers: readonly ContentKeeper[];
  readonly site: KnownSite | undefined;
  /** Whether what looks like noise is to be kept out of the window. */
  readonly separateNoise: () => boolean;
  /** Whether XORs are worth it. While they are not, and nobody may ask for a content, none is written to the spool. */
  readonly wantsXors: () => boolean;
}

/** Decides how each new content of a batch is sent. Batches come one at a time and in order. */
export class Classifier {
  readonly #keepers: readonly ContentKeeper[];
  readonly #site: KnownSite | undefined;
  readonly #separateNoise: () => boolean;
  readonly #wantsXors: () => boolean;
  readonly #base = Buffer.from(new ArrayBuffer(PAGE_SIZE));
  readonly #baseWords = new Int32Array(this.#base.buffer);
  readonly #wanted = new Int32Array(MAX_BATCH_CONTENTS * DIGEST_WORDS);
  #noise = 0;
  readonly #held = new Uint8Array(MAX_BATCH_CONTENTS);

  constructor(options: ClassifierOptions) {
    this.#keepers = options.keepers;
    this.#site = options.site;
    this.#separateNoise = options.separateNoise;
    this.#wantsXors = options.wantsXors;
  }

  /** @param spool the contents of the log, where pages are sent again; without it nothing is sent as an XOR */
  async classify(batch: Batch, spool: ContentFile | undefined): Promise<void> {
    if (batch.count > 0 && (this.#site || this.#keepers.length > 0)) {
      for (let slot = 0; slot < batch.count; slot++) batch.copyDigest(slot, this.#wanted, slot * DIGEST_WORDS);
      const digests = new Uint8Array(this.#wanted.buffer, 0, batch.count * DIGEST_SIZE);
      for (const keeper of this.#keepers) await keeper.put(digests, batch.contents, batch.count);
      if (this.#site) await this.#findKnown(batch, digests, this.#site);
    }
    const separateNoise = this.#separateNoise();
    const wantsXors = this.#wantsXors();
    for (let slot = 0; slot < batch.count; slot++) {
      if (batch.kinds[slot] !== OP.NEW) continue;
      if (wantsXors && spool && batch.bases[slot]! >= batch.forget && this.#xor(batch, slot, spool)) {
        batch.kinds[slot] = OP.DELTA;
        batch.deltaCount++;
        batch.counters.delta += PAGE_SIZE;
      } else if (separateNoise && this.#isNoise(batch, slot)) batch.kinds[slot] = OP.STORED;
    }
    // A spool that was made after this batch was cut begins with a later one.
    if (spool?.next !== batch.first) return;
    if (!wantsXors && !this.#site?.known) {
      spool.skip(batch.count);
      return;
    }
    spool.forget(Math.min(batch.forget, this.#site?.known?.oldest ?? batch.forget));
    await spool.append(batch.contents, batch.count);
  }

  async #findKnown(batch: Batch, digests: Uint8Array, site: KnownSite): Promise<void> {
    let room = site.known?.room() ?? batch.count;
    await site.index?.lookup(digests, batch.count, this.#held);
    for (let slot = 0; slot < batch.count && room > 0; slot++) {
      const past = site.past?.find(this.#wanted, slot * DIGEST_WORDS) ?? -1;
      if (past < 0 && (!site.index || this.#held[slot] === 0)) continue;
      room--;
      batch.kinds[slot] = past < 0 ? OP.KNOWN : OP.PAST;
      batch.past[slot] = past;
      batch.counters.fresh -= PAGE_SIZE;
      batch.counters.deduplicated += PAGE_SIZE;
      site.known?.add(batch.first + slot);
    }
    // What a recording brings is there once it is read: the session that reads it may have forgotten it by then.
    if (site.known) await site.index?.insert(digests, batch.count);
  }

  /**
   * Whether a page is one of many that look like noise. Scattered ones stay with the others: compressed files that two
   * guests hold at different offsets look alike, and the window finds them (1 % of the bytes of real guests).
   */
  #isNoise(batch: Batch, slot: number): boolean {
    const noise = looksIncompressible(batch.contents, slot * PAGE_SIZE);
    this.#noise += ((noise ? 1 : 0) - this.#noise) / NOISE_MEMORY;
    return noise && this.#noise > NOISE_SHARE;
  }

  /** Puts the XOR with the last version behind the batch's other XORs; returns whether it is worth sending. */
  #xor(batch: Batch, slot: number, spool: ContentFile): boolean {
    const base = batch.bases[slot]!;
    const deltas = batch.deltaWords;
    const target = batch.deltaCount * PAGE_WORDS;
    if (base >= batch.first) {
      const at = (base - batch.first) * PAGE_WORDS;
      return xorPages(batch.words, slot * PAGE_WORDS, batch.words, at, deltas, target) >= SIMILAR_BYTES;
    }
    if (base < spool.low) return false;
    spool.read(base, 1, this.#base, 0);
    return xorPages(batch.words, slot * PAGE_WORDS, this.#baseWords, 0, deltas, target) >= SIMILAR_BYTES;
  }
}
