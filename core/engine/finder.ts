import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { IntegrityError, ProtocolError } from "../errors.ts";
import { sha256Into } from "../runtime.ts";
import type { ContentBroker } from "./broker.ts";

interface Pending {
  readonly page: Buffer;
  readonly digest: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * Finds contents that were sent by digest: at the brokers, in order, and then at the sender. (Looking aside to any
 * provider of a content: Tolia et al., 2002.) Every content is checked against its digest, wherever it comes from.
 */
export class ContentFinder {
  readonly #brokers: readonly ContentBroker[];
  readonly #ask: ((number: number) => void) | undefined;
  readonly #pending = new Map<number, Pending>();
  #error: Error | undefined;

  /** @param ask sends a WANT; undefined where the sender can't answer */
  constructor(brokers: readonly ContentBroker[], ask: ((number: number) => void) | undefined) {
    this.#brokers = brokers;
    this.#ask = ask;
  }

  /**
   * The pages of `digests`, back to back, in the same order. Rejects with an `IntegrityError` where one is nowhere.
   * @param numbers the contents' numbers, ascending
   */
  async find(digests: Buffer, numbers: readonly number[]): Promise<Buffer> {
    const count = numbers.length;
    const pages = Buffer.alloc(count * PAGE_SIZE);
    const found = new Uint8Array(count);
    for (const broker of this.#brokers) {
      const before = found.slice();
      await broker.fetch(digests, count, found, pages);
      for (let i = 0; i < count; i++) {
        if (found[i] !== 0 && before[i] === 0 && !matches(pages, digests, i)) found[i] = 0;
      }
      if (!found.includes(0)) return pages;
    }
    const missing = numbers.filter((_, i) => found[i] === 0);
    if (!this.#ask) {
      throw new IntegrityError(
        `${missing.length} contents are not here although they were said to be: index this site again, and send again`,
      );
    }
    if (this.#error) throw this.#error;
    const arrivals = missing.map((number) => {
      const i = numbers.indexOf(number);
      const page = pages.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
      const digest = digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE);
      return new Promise<void>((resolve, reject) => this.#pending.set(number, { page, digest, resolve, reject }));
    });
    for (const number of missing) this.#ask(number);
    await Promise.all(arrivals);
    return pages;
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
}

const scratch = Buffer.alloc(DIGEST_SIZE);

function matches(pages: Buffer, digests: Uint8Array, i: number): boolean {
  sha256Into(pages.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE), scratch);
  return scratch.compare(digests, i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE) === 0;
}
