import { join } from "node:path";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { fileError, ShrinkerError } from "../errors.ts";
import { type Lock, takeLock } from "../files/lock.ts";
import { syncFolder } from "../files/whole.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex, NO_PLACES } from "./digest-index.ts";
import { fetchContents, type Located } from "./fetch.ts";
import { GroupQueue } from "./group-queue.ts";
import { GroupReader } from "./group-reader.ts";
import { type Identity, type Layout, openLayout, readIdentity } from "./layout.ts";
import { removeLeftovers } from "./leftovers.ts";
import { MAX_PACKS, PACK_HEADER, packPath, syncPacks } from "./pack.ts";
import { createPack, PackWriter, type Place } from "./pack-writer.ts";
import { RecentContents } from "./recent.ts";
import { recover } from "./recover.ts";

/** Contents after which what was written is made to last and indexed, in the middle of a session: 256 MiB. */
const FLUSH_CONTENTS = (256 << 20) / PAGE_SIZE;

export interface StoreOptions {
  readonly domain: string;
  /** For one who adds to it: makes what is missing, and locks others out. */
  readonly write?: boolean;
  /** Told what was found to be damaged and is made again, or done without. */
  readonly warn?: (message: string) => void;
}

/**
 * A site's content-addressed store, of one domain: contents by their digests, in packs of compressed groups, and an index of
 * them in RAM (28 bytes a digest). One process writes at a time, any number read.
 * (A write-once store with an index that can be made again: Quinlan and Dorward, Venti, FAST 2002.)
 */
export class Store {
  readonly name: string;
  readonly checks = true;
  readonly layout: Layout;
  readonly index: DigestIndex;
  readonly #reader: GroupReader;
  readonly #locks: readonly Lock[];
  readonly #recent = new RecentContents();
  readonly #writer: PackWriter | undefined;
  readonly #queue: GroupQueue | undefined;
  /** Packs that have less than the index says, and up to where. */
  readonly #short: ReadonlyMap<number, number>;
  #identity: Identity;
  /** Up to where what was written is in the index. */
  #indexed: Place;
  #flushing: Promise<void> = Promise.resolve();

  private constructor(
    dir: string,
    layout: Layout,
    identity: Identity,
    index: DigestIndex,
    locks: readonly Lock[],
    short: ReadonlyMap<number, number>,
    end: { number: number; end: number } | undefined,
  ) {
    this.name = `the store "${dir}"`;
    this.layout = layout;
    this.index = index;
    this.#identity = identity;
    this.#locks = locks;
    this.#short = short;
    this.#reader = new GroupReader(layout.packs);
    this.#indexed = { pack: end?.number ?? 0, offset: end?.end ?? 0 };
    if (!end) return;
    this.#writer = new PackWriter(layout.packs, end.number, end.end);
    this.#queue = new GroupQueue(this.#recent, this.#writer);
  }

  /**
   * Opens a store. Rejects with `refused` where another process writes to it, or its version is another; `input` where it
   * is none.
   */
  static async open(dir: string, { domain, write = false, warn = () => {} }: StoreOptions): Promise<Store> {
    const layout = await openLayout(dir, domain, write);
    await readIdentity(layout);
    const locks: Lock[] = [];
    try {
      if (write) {
        const taken = `Another shrinker writes to the store "${dir}": wait until it is done`;
        locks.push(await takeLock(join(layout.folder, "writer"), true, taken));
        await removeLeftovers([layout.index, layout.snapshots]);
      }
      const removing = `Another shrinker removes contents from the store "${dir}": wait until it is done`;
      locks.push(await takeLock(join(layout.folder, "readers"), false, removing));
      // Not before: who removes contents changes it.
      const identity = await readIdentity(layout);
      let whole = true;
      const lost = (error: Error) => warn(error.message);
      let index = await DigestIndex.open(layout.index, (error) => {
        whole = false;
        lost(error);
      });
      const { run, short, last } = await recover(layout.packs, index.covered(), lost);
      const end = write ? await placeToAppend(layout.packs, last) : undefined;
      if (write && run) await syncPacks(layout.packs, run.covered.keys());
      if (write && !whole) {
        await DigestIndex.replace(layout.index, run?.table ?? NO_PLACES, run?.covered ?? new Map());
        index = await DigestIndex.open(layout.index, lost);
      } else if (run && write) await index.add(run.table, run.covered, true);
      else if (run) index.addInMemory(run.table);
      return new Store(dir, layout, identity, index, locks, short, end);
    } catch (error) {
      for (const lock of locks) await lock.release();
      throw error;
    }
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Contents, about: those that lie in several places count several times. */
  get count(): number {
    return this.index.count + this.#recent.count;
  }

  /** What this process has added: contents, and bytes of groups. */
  get added(): { contents: number; bytes: number } {
    return { contents: this.#recent.count, bytes: this.#queue?.bytes ?? 0 };
  }

  /** Whether packs have less than the index says: then `tables` have more than is held. */
  get isShort(): boolean {
    return this.#short.size > 0;
  }

  /** All digests that are held, as tables. */
  tables(): PrefixTable[] {
    return [...this.index.runs.map(({ table }) => table), ...(this.#recent.count > 0 ? [this.#recent.table()] : [])];
  }

  /** Whether the digest at `digests[index * 32]` is held; `digests` is aligned to 4 bytes. */
  has(digests: Uint8Array, index: number): boolean {
    return this.#holds(digests, wordsOf(digests), index);
  }

  /**
   * Takes in those contents that it lacks. They last after `flush`.
   * @param digests 32 bytes each, aligned to 4 bytes; they must be right
   * @param pages 4096 bytes each, in the same order; copied
   */
  async put(digests: Uint8Array, pages: Uint8Array, count: number): Promise<void> {
    const queue = this.#queue;
    if (!queue) throw new ShrinkerError("bug", `${this.name} was opened to be read`);
    const words = wordsOf(digests);
    for (let i = 0; i < count; i++) if (!this.#holds(digests, words, i)) queue.add(digests, words, i, pages, i);
    await queue.room();
    if (this.#recent.pending >= FLUSH_CONTENTS) await this.flush();
  }

  /** Makes what was put last: the packs first, then the index. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#flush());
    return this.#flushing;
  }

  /**
   * Looks for the digests whose `found[i]` is 0; where it has one, writes its page and sets `found[i]`. A content whose
   * group is damaged is not found.
   */
  async fetch(digests: Uint8Array, count: number, found: Uint8Array, pages: Uint8Array): Promise<void> {
    const words = wordsOf(digests);
    await fetchContents(
      { digests, count, found, pages },
      (i) => this.#locate(digests, words, i),
      (place, use) => this.#reader.read(place, use),
    );
  }

  /** Ends it. What was not flushed may be lost; where something could not be written, it is. */
  async close(): Promise<void> {
    const written = await Promise.allSettled([this.#flushing, this.#queue?.settled()]);
    this.#queue?.end();
    if (written.some(({ status }) => status === "rejected")) await this.#writer?.cutBack(this.#indexed);
    if (this.#writer) await this.index.merge().catch(() => {});
    await this.#writer?.close();
    this.#reader.close();
    for (const lock of this.#locks) await lock.release();
  }

  #holds(digests: Uint8Array, words: Int32Array, index: number): boolean {
    if (this.#recent.find(words, (index * DIGEST_SIZE) / 4) >= 0) return true;
    if (!this.index.find(digests, index * DIGEST_SIZE)) return false;
    return this.#short.size === 0 || this.index.offset < (this.#short.get(this.index.pack) ?? Infinity);
  }

  async #flush(): Promise<void> {
    const queue = this.#queue;
    if (!queue) return;
    queue.close();
    const to = this.#recent.count;
    await queue.sync();
    const run = this.#recent.take(to);
    if (!run) return;
    await this.index.add(run.table, run.covered, false);
    for (const [pack, offset] of run.covered) this.#indexed = { pack, offset };
  }

  async #locate(digests: Uint8Array, words: Int32Array, i: number): Promise<Located | undefined> {
    const number = this.#recent.find(words, (i * DIGEST_SIZE) / 4);
    if (number >= 0) {
      if (!this.#recent.place(number)) {
        this.#queue!.close();
        await this.#queue!.settled();
      }
      return this.#recent.place(number);
    }
    if (!this.index.find(digests, i * DIGEST_SIZE)) return undefined;
    const { pack, offset, slot } = this.index;
    return { place: { pack, offset }, slot };
  }
}

/**
 * Where the next group goes. A pack that may not be appended to is followed by another one at once: from then on the index covers
 * what could be read of it, and the next writer would take the rest for a write that was cut off.
 */
async function placeToAppend(folder: string, last: { number: number; end: number } | undefined) {
  if (!last) return { number: 1, end: 0 };
  if (last.end > 0) return last;
  const number = last.number + 1;
  if (number > MAX_PACKS) return { number, end: 0 };
  await using pack = await createPack(folder, number);
  await pack.sync().catch((error) => {
    throw fileError("Cannot write", packPath(folder, number), error);
  });
  await syncFolder(folder);
  return { number, end: PACK_HEADER };
}

function wordsOf(digests: Uint8Array): Int32Array {
  return new Int32Array(digests.buffer, digests.byteOffset, digests.byteLength >> 2);
}
