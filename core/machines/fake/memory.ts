import { copyBytes } from "../../content/copy.ts";
import { PAGE_SIZE } from "../../content/page.ts";
import { isZeroPage } from "../../content/zero.ts";
import { PageBitmap } from "./bitmap.ts";
import { type GuestShape, initialPage, rewritePage } from "./layout.ts";

/** A block of RAM, as the stream lists it. Pages are counted through all blocks. */
export interface GuestBlock {
  readonly name: string;
  readonly firstPage: number;
  readonly pages: number;
}

/** Pages are stored this many at a time, so that memory that nobody wrote to takes none. */
const CHUNK_PAGES = 256;

/** Where a page is: not stored as it is what it was at first, zeros, or in a chunk. */
const INITIAL = 0;
const ZERO = 1;
const STORED = 2;

/**
 * The RAM of a fake guest. Pages that were never written are made when they are read, so a guest that starts takes no
 * memory; one that came in takes what of it is not zeros, at most its size.
 */
export class GuestMemory {
  readonly blocks: readonly GuestBlock[];
  readonly pages: number;
  /** Pages that were written since it was last emptied. */
  readonly log: PageBitmap;
  readonly #where: Uint8Array;
  readonly #chunks: (Uint8Array | undefined)[];
  readonly #words = new Uint32Array(PAGE_SIZE / 4);
  readonly #page = new Uint8Array(this.#words.buffer);
  #shape: GuestShape;

  /** @param blank whether it is all zeros, to be filled by a migration */
  constructor(shape: GuestShape, blank: boolean) {
    this.#shape = shape;
    const blocks: GuestBlock[] = [];
    let firstPage = 0;
    for (const { name, bytes } of shape.blocks) {
      blocks.push({ name, firstPage, pages: bytes / PAGE_SIZE });
      firstPage += bytes / PAGE_SIZE;
    }
    this.blocks = blocks;
    this.pages = firstPage;
    this.log = new PageBitmap(firstPage);
    this.#where = new Uint8Array(firstPage).fill(blank ? ZERO : INITIAL);
    this.#chunks = new Array(Math.ceil(firstPage / CHUNK_PAGES)).fill(undefined);
  }

  /** What the pages should hold, once that is known of a guest that came in; its blocks must be the same. */
  set shape(shape: GuestShape) {
    this.#shape = shape;
  }

  /** Copies a page to `into[at, at + 4096)`; returns false, and copies nothing, where it is zeros. */
  read(page: number, into: Uint8Array, at: number): boolean {
    const where = this.#where[page];
    if (where === ZERO) return false;
    if (where === STORED) {
      const start = (page % CHUNK_PAGES) * PAGE_SIZE;
      const chunk = this.#chunkOf(page);
      if (isZeroPage(chunk, start)) return false;
      copyBytes(chunk, into, at, start, start + PAGE_SIZE);
      return true;
    }
    if (!initialPage(this.#shape, page, this.#words)) return false;
    copyBytes(this.#page, into, at, 0, PAGE_SIZE);
    return true;
  }

  /** Stores `bytes[at, at + 4096)` as a page that came in. */
  store(page: number, bytes: Uint8Array, at: number): void {
    copyBytes(bytes, this.#chunkOf(page), (page % CHUNK_PAGES) * PAGE_SIZE, at, at + PAGE_SIZE);
    this.#where[page] = STORED;
  }

  storeZeros(page: number): void {
    this.#where[page] = ZERO;
  }

  /** The guest writes to a page of its working set: the write that makes it this version, from 1. */
  rewrite(page: number, version: number): void {
    this.#load(page);
    rewritePage(this.#shape, page, version, this.#words);
    this.#keep(page);
  }

  /** Changes a byte of a page, as nothing in the guest would. */
  damage(page: number): void {
    this.#load(page);
    this.#page[100]! ^= 1;
    this.#keep(page);
  }

  /**
   * Compares all pages with what they should be.
   * @param versionOf how often the guest has written to a page
   */
  check(versionOf: (page: number) => number): { pages: number; wrong: number } {
    const stored = Buffer.alloc(PAGE_SIZE);
    let wrong = 0;
    for (let page = 0; page < this.pages; page++) {
      const version = versionOf(page);
      if (this.#where[page] === INITIAL && version === 0) continue;
      const filled = this.read(page, stored, 0);
      const expected = initialPage(this.#shape, page, this.#words);
      if (version > 0) rewritePage(this.#shape, page, version, this.#words);
      const right = filled ? stored.compare(this.#page) === 0 : !expected && version === 0;
      if (!right) wrong++;
    }
    return { pages: this.pages, wrong };
  }

  /** Takes a page to where it can be changed. */
  #load(page: number): void {
    if (!this.read(page, this.#page, 0)) this.#page.fill(0);
  }

  /** Stores the page that was changed. */
  #keep(page: number): void {
    this.store(page, this.#page, 0);
    this.log.add(page);
  }

  #chunkOf(page: number): Uint8Array {
    const index = Math.floor(page / CHUNK_PAGES);
    const chunk = this.#chunks[index] ?? new Uint8Array(CHUNK_PAGES * PAGE_SIZE);
    this.#chunks[index] = chunk;
    return chunk;
  }
}
