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

/**
 * Puts contents into new groups, as large as they may be, in the order in which they come. Four groups of 4 MiB are on the way, and
 * 56 bytes a content are taken for the index.
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

  /** Copies the content at `pages[page * 4096]`; resolves when there is room for another. */
  async add(digests: Uint8Array, index: number, pages: Uint8Array): Promise<void> {
    this.#buffers ??= this.#free.pop() ?? {
      digests: Buffer.allocUnsafeSlow(MAX_GROUP_CONTENTS * DIGEST_SIZE),
      pages: Buffer.allocUnsafeSlow(MAX_GROUP_CONTENTS * PAGE_SIZE),
    };
  }
}
