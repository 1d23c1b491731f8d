import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import { encodeGroup, MAX_GROUP_CONTENTS } from "./group.ts";
import type { PackWriter } from "./pack-writer.ts";

/** Groups between being filled and being written. */
const MOST = 4;

interface GroupBuffers {
  readonly digests: Buffer;
  readonly pages: Buffer;
}

/** Where contents lie that were put into new groups. */
export interface Regrouped {
  readonly table: PrefixTable;
  /** How far each new pack reaches. */
  readonly covered: ReadonlyMap<number, number>;
}

/**
 * Puts contents into new groups, as large as they may be, in the order in which they come. Up to six groups of 4 MiB are on their
 * way, and the index takes 56 bytes a content.
 */
export class Regrouper {
  readonly #writer: PackWriter;
  readonly #level: number;
  readonly #builder = DigestIndex.builder();
  readonly #covered = new Map<number, number>();
  readonly #waiting: Promise<void>[] = [];
  readonly #free: GroupBuffers[] = [];
  #buffers: GroupBuffers | undefined;
  #count = 0;
  #written: Promise<void> = Promise.resolve();

  /** @param level of zstd */
  constructor(writer: PackWriter, level: number) {
    this.#writer = writer;
    this.#level = level;
  }

  /** The pack that the next group goes to, or the one after it. */
  get pack(): number {
    return this.#writer.position.pack;
  }

  /** Copies the content `index` of a group. */
  add(digests: Uint8Array, pages: Uint8Array, index: number): void {
    this.#buffers ??= this.#free.pop() ?? {
      digests: Buffer.allocUnsafeSlow(MAX_GROUP_CONTENTS * DIGEST_SIZE),
      pages: Buffer.allocUnsafeSlow(MAX_GROUP_CONTENTS * PAGE_SIZE),
    };
    const own = this.#buffers;
    const at = this.#count++;
    own.digests.set(digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE), at * DIGEST_SIZE);
    own.pages.set(pages.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE), at * PAGE_SIZE);
    if (this.#count === MAX_GROUP_CONTENTS) this.#close();
  }

  /** Resolves when there is room for another group. Rejects where one could not be written. */
  async room(): Promise<void> {
    while (this.#waiting.length >= MOST) await this.#waiting.shift();
  }

  /** Writes what is left, and makes it all last. */
  async finish(): Promise<Regrouped> {
    this.#close();
    await this.#written;
    await this.#writer.sync();
    return { table: this.#builder.build(), covered: this.#covered };
  }

  /** Resolves when nothing is on its way any more. Never rejects. */
  async settled(): Promise<void> {
    await this.#written.catch(() => {});
  }

  #close(): void {
    const buffers = this.#buffers;
    if (!buffers || this.#count === 0) return;
    this.#buffers = undefined;
    const count = this.#count;
    this.#count = 0;
    const digests = buffers.digests.subarray(0, count * DIGEST_SIZE);
    const encoded = encodeGroup(digests, buffers.pages.subarray(0, count * PAGE_SIZE), this.#level);
    // Of one that fails all that follow fail, too: groups lie in their order.
    const written = Promise.all([encoded, this.#written]).then(async ([parts]) => {
      const place = await this.#writer.append(parts);
      const { offset: end } = this.#writer.position;
      for (let slot = 0; slot < count; slot++) DigestIndex.put(this.#builder, digests, slot * DIGEST_SIZE, place, slot);
      this.#covered.set(place.pack, end);
      this.#free.push(buffers);
    });
    written.catch(() => {});
    this.#written = written;
    this.#waiting.push(written);
  }
}
