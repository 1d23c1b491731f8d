import { compareBytes } from "../content/compare.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { PageWorker } from "../content/page-worker.ts";
import { IntegrityError, ProtocolError } from "../errors.ts";
import { sha256Into } from "../runtime.ts";
import { MAX_BATCH_CONTENTS } from "../wire/numbers.ts";
import type { ContentBroker } from "./broker.ts";
import { MissingContents } from "./missing.ts";

interface Pending {
  readonly page: Buffer;
  readonly digest: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Contents that were named by digest, found and checked. */
export interface FoundContents {
  /** 4096 bytes each. */
  readonly pages: Buffer;
  /** 32 bytes each: what the pages were checked against. */
  readonly digests: Buffer;
  /** The pages are not needed any more. */
  release(): void;
}

export const NOTHING_FOUND: FoundContents = { pages: Buffer.alloc(0), digests: Buffer.alloc(0), release() {} };

/** Buffers that are kept for later: touching new memory takes longer than what is done with it. */
const KEPT_BUFFERS = 9;

/**
 * Finds contents that were sent by digest: at the brokers, in order, and then at the sender. (Looking aside to any
 * provider of a content: Tolia et al., 2002.) Every content is checked against its digest, wherever it comes from.
 */
export class ContentFinder {
  readonly #brokers: readonly ContentBroker[];
  readonly #ask: ((number: number) => void) | undefined;
  readonly #pending = new Map<number, Pending>();
  #worker: PageWorker | undefined;
  readonly #free: ArrayBuffer[] = [];
  /** What was found nowhere, where the sender can't answer. */
  readonly missing: MissingContents;
  #error: Error | undefined;

  /**
   * @param ask sends a WANT; undefined where the sender can't answer
   * @param index said that what a recording leaves out is here
   */
  constructor(brokers: readonly ContentBroker[], ask: ((number: number) => void) | undefined, index?: Uint8Array) {
    this.#brokers = brokers;
    this.#ask = ask;
    this.missing = new MissingContents(index);
  }

  /**
   * The pages of `digests`, back to back, in the same order; undefined where one is nowhere, which `missing` then knows of.
   * Rejects with an `IntegrityError` where the sender gives another.
   * @param numbers the contents' numbers, ascending
   */
  async find(digests: Buffer, numbers: readonly number[]): Promise<FoundContents | undefined> {
    const count = numbers.length;
    let pages = Buffer.from(this.#free.pop() ?? new ArrayBuffer(MAX_BATCH_CONTENTS * PAGE_SIZE));
    const result = (): FoundContents => ({
      pages: pages.subarray(0, count * PAGE_SIZE),
      digests,
      release: () => {
        if (this.#free.length < KEPT_BUFFERS) this.#free.push(pages.buffer);
      },
    });
    const found = new Uint8Array(count);
    for (const broker of this.#brokers) {
      const before = found.slice();
      await broker.fetch(digests, count, found, pages);
      if (Buffer.compare(before, found) === 0) continue;
      if (!broker.checks) pages = await this.#check(pages, digests, found);
      if (!found.includes(0)) return result();
    }
    if (!this.#ask) {
      this.missing.note(digests, found);
      result().release();
      return undefined;
    }
    if (this.#error) throw this.#error;
    const missing = numbers.filter((_, i) => found[i] === 0);
    const arrivals = missing.map((number) => {
      const i = numbers.indexOf(number);
      const page = pages.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
      const digest = digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE);
      return new Promise<void>((resolve, reject) => this.#pending.set(number, { page, digest, resolve, reject }));
    });
    for (const number of missing) this.#ask(number);
    await Promise.all(arrivals);
    return result();
  }

  /** The sender's answer. Throws a `ProtocolError` for what was not asked for. */
  content(number: number, page: Buffer): void {
    const pending = this.#pending.get(number);
    if (!pending) throw new ProtocolError(`The peer sends content ${number}, which was not asked for`);
    this.#pending.delete(number);
    page.copy(pending.page);
    if (matches(pending.page, pending.digest, 0)) pending.resolve();
    else pending.reject(new IntegrityError(`Content ${number} differs from the digest that it was announced by`));
  }

  fail(error: Error): void {
    this.#error ??= error;
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }

  /** Digests pages; those that are not what they were said to be are not found. Returns the pages, as their memory has moved. */
  async #check(pages: Buffer<ArrayBuffer>, digests: Buffer, found: Uint8Array): Promise<Buffer<ArrayBuffer>> {
    const { length } = found;
    this.#worker ??= new PageWorker();
    const checked = await this.#worker.digest(pages.buffer, length, new ArrayBuffer(length * DIGEST_SIZE));
    const theirs = new Uint8Array(checked.digests);
    for (let i = 0; i < length; i++) {
      if (compareBytes(theirs, i * DIGEST_SIZE, digests, i * DIGEST_SIZE, DIGEST_SIZE) !== 0) found[i] = 0;
    }
    return Buffer.from(checked.pages);
  }

  close(): void {
    this.#worker?.close();
  }
}

const scratch = Buffer.alloc(DIGEST_SIZE);

function matches(pages: Buffer, digests: Uint8Array, i: number): boolean {
  sha256Into(pages.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE), scratch);
  return compareBytes(scratch, 0, digests, i * DIGEST_SIZE, DIGEST_SIZE) === 0;
}
