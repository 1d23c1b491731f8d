import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE } from "../content/page.ts";
import { KeyTable } from "../engine/key-table.ts";
import { type ScannedBlock, scanContents } from "../engine/scan.ts";
import { DigestTable } from "../index/digest-table.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import type { Piece, StreamInfo } from "../machines/machine.ts";
import { segmentFormats } from "../segment/registry.ts";
import { zstdEncoder } from "../wire/codec/zstd.ts";
import { MAX_WINDOW_LOG, SMALL_WINDOW_LOG } from "../wire/numbers.ts";
import type { PlaceTable } from "./place-table.ts";
import { CompressionSample, type Estimate } from "./sample.ts";
import type { SiteView } from "./site-view.ts";

/** New contents that are encoded together: 1 MiB. */
const UNIT = 1 << 20;
/** What a batch has besides contents, literals and digests: its frame, its header, its columns, its operations. */
const BATCH_BYTES = 160;

/** What of some streams a site has. In bytes: `plain` = `zero` + `same` + `elsewhere` + `duplicate` + `fresh` + `literal`. */
export interface Difference {
  readonly plain: number;
  readonly zero: number;
  /** Chunks that the site has at the same place; undefined where it has no places to compare with. */
  readonly same: number | undefined;
  /** Chunks that it has somewhere else. */
  readonly elsewhere: number;
  /** Chunks that it lacks and that came before. */
  readonly duplicate: number;
  /** Chunks that it lacks, the first of each content. */
  readonly fresh: number;
  readonly literal: number;
  /** Of `fresh`: further versions of pages that came before, of which a migration sends what has changed, and so less. */
  readonly resent: number;
  /** Distinct contents that the site has: each is named once. */
  readonly known: number;
  readonly wire: WireEstimate;
}

/** What would cross, in bytes. */
export interface WireEstimate {
  readonly contents: Estimate;
  readonly literals: Estimate;
  /** Digests of contents that the site has. */
  readonly digests: number;
  /** Frames, headers and operations. */
  readonly frames: number;
  readonly total: number;
  /** Standard error of the total, for what was only sampled. */
  readonly error: number;
}

/** Compares streams with what a site holds. Takes 48 bytes of memory a distinct content of theirs, besides the view. */
export class SiteDifference {
  readonly #view: SiteView;
  readonly #tables: readonly PrefixTable[];
  readonly #seen = new DigestTable();
  readonly #fresh = Buffer.alloc(UNIT);
  readonly #contents = new CompressionSample(zstdEncoder({ level: 3, windowLog: MAX_WINDOW_LOG }));
  readonly #literals = new CompressionSample(zstdEncoder({ level: 6, windowLog: SMALL_WINDOW_LOG }));
  readonly #pages = { same: 0, elsewhere: 0, duplicate: 0, fresh: 0, resent: 0, known: 0 };
  readonly #rest = { zero: 0, literal: 0 };
  #freshEnd = 0;
  #blocks = 0;
  #hasPlaces = false;
  #turn: Promise<void> = Promise.resolve();

  constructor(view: SiteView) {
    this.#view = view;
    this.#tables = view.tables;
  }

  /** Reads a stream to its end; several may be read side by side. */
  async read(info: StreamInfo, pieces: AsyncIterable<Piece>): Promise<void> {
    const places = this.#view.placesOf(info);
    if (places) this.#hasPlaces = true;
    const format = segmentFormats.get(info.format)!;
    const keys = format.keyed ? new KeyTable() : undefined;
    const rest = await scanContents(format.create(), pieces, (block) => {
      const done = this.#turn.then(() => this.#compare(block, places, keys));
      this.#turn = done.catch(() => {});
      return done;
    });
    this.#rest.zero += rest.zero;
    this.#rest.literal += rest.literal;
  }

  /** What was found, once all streams are read. */
  async result(): Promise<Difference> {
    await this.#contents.add(this.#fresh.subarray(0, this.#freshEnd));
    this.#freshEnd = 0;
    const { known, ...pages } = this.#pages;
    const same = pages.same * PAGE_SIZE;
    const elsewhere = pages.elsewhere * PAGE_SIZE;
    const duplicate = pages.duplicate * PAGE_SIZE;
    const fresh = pages.fresh * PAGE_SIZE;
    const resent = pages.resent * PAGE_SIZE;
    const { zero, literal } = this.#rest;
    const plain = zero + same + elsewhere + duplicate + fresh + literal;
    const parts = { zero, elsewhere, duplicate, fresh, literal, resent, known };
    return { plain, ...parts, same: this.#hasPlaces ? same : undefined, wire: this.#estimate(known) };
  }

  close(): void {
    this.#contents.close();
    this.#literals.close();
  }

  #estimate(known: number): WireEstimate {
    const contents = this.#contents.estimate();
    const literals = this.#literals.estimate();
    const digests = known * DIGEST_SIZE;
    const frames = this.#blocks * BATCH_BYTES;
    const total = contents.ratio * contents.total + literals.ratio * literals.total + digests + frames;
    const error = Math.hypot(contents.error * contents.total, literals.error * literals.total);
    return { contents, literals, digests, frames, total: Math.round(total), error: Math.round(error) };
  }

  async #compare(block: ScannedBlock, places: PlaceTable | undefined, keys: KeyTable | undefined): Promise<void> {
    const { count, digests, words, pages, literals } = block;
    const found = this.#pages;
    this.#blocks++;
    await this.#literals.add(literals);
    for (let i = 0; i < count; i++) {
      const isNew = this.#seen.find(words, i * DIGEST_WORDS) < 0;
      if (isNew) this.#seen.add(words, i * DIGEST_WORDS);
      const came = keys !== undefined && keys.replace(block.keys[i]!, 0) >= 0;
      if (places?.has(block, i)) found.same++;
      else if (this.#has(digests, i * DIGEST_SIZE)) found.elsewhere++;
      else if (!isNew) {
        found.duplicate++;
        continue;
      } else {
        found.fresh++;
        if (came) found.resent++;
        this.#freshEnd += pages.copy(this.#fresh, this.#freshEnd, i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
        if (this.#freshEnd === UNIT) await this.#flush();
        continue;
      }
      if (isNew) found.known++;
    }
  }

  async #flush(): Promise<void> {
    await this.#contents.add(this.#fresh);
    this.#freshEnd = 0;
  }

  #has(digests: Uint8Array, at: number): boolean {
    for (const table of this.#tables) if (table.has(digests, at)) return true;
    return false;
  }
}
