import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { encodeGroup, GROUP_CONTENTS } from "./group.ts";
import type { PackWriter } from "./pack-writer.ts";
import type { RecentContents, RecentGroup } from "./recent.ts";

/** Groups between being filled and being written. */
const MOST = 4;
/** What arrives is to be written fast; a repack compresses harder. */
const ARRIVAL_LEVEL = 1;

interface GroupBuffers {
  readonly digests: Buffer;
  readonly pages: Buffer;
}

function groupBuffers(): GroupBuffers {
  return {
    digests: Buffer.allocUnsafeSlow(GROUP_CONTENTS * DIGEST_SIZE),
    pages: Buffer.allocUnsafeSlow(GROUP_CONTENTS * PAGE_SIZE),
  };
}

/** Gathers contents into groups, compresses several at once, and writes them in their order. */
export class GroupQueue {
  readonly #recent: RecentContents;
  readonly #writer: PackWriter;
  readonly #waiting: Promise<void>[] = [];
  /** Used again: touching new memory takes longer than copying into it. */
  readonly #free: GroupBuffers[] = [];
  #group: RecentGroup | undefined;
  #buffers: GroupBuffers | undefined;
  #count = 0;
  #written: Promise<void> = Promise.resolve();
  #error: Error | undefined;
  /** Bytes of the groups that are written. */
  bytes = 0;

  constructor(recent: RecentContents, writer: PackWriter) {
    this.#recent = recent;
    this.#writer = writer;
  }

  /** Copies a content, which `recent` must not have yet, and gives it its number. */
  add(digests: Uint8Array, words: Int32Array, index: number, pages: Uint8Array, page: number): void {
    if (this.#error) throw this.#error;
    if (!this.#group) {
      this.#group = this.#recent.begin();
      this.#buffers = this.#free.pop() ?? groupBuffers();
      this.#count = 0;
    }
    this.#recent.add(words, (index * DIGEST_SIZE) / 4);
    const at = this.#count++;
    const own = this.#buffers!;
    own.digests.set(digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE), at * DIGEST_SIZE);
    own.pages.set(pages.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE), at * PAGE_SIZE);
    if (this.#count === GROUP_CONTENTS) this.close();
  }

  /** Ends the group that is being filled, and sends it on its way. */
  close(): void {
    const group = this.#group;
    if (!group) return;
    const buffers = this.#buffers!;
    this.#group = undefined;
    const digests = buffers.digests.subarray(0, this.#count * DIGEST_SIZE);
    const encoded = encodeGroup(digests, buffers.pages.subarray(0, this.#count * PAGE_SIZE), ARRIVAL_LEVEL);
    const written = Promise.all([encoded, this.#written]).then(async ([parts]) => {
      if (this.#error) throw this.#error;
      group.place = await this.#writer.append(parts);
      group.end = this.#writer.position.offset;
      this.bytes += group.end - group.place.offset;
      this.#free.push(buffers);
    });
    written.catch((error) => {
      this.#error ??= error;
    });
    this.#written = written;
    this.#waiting.push(written);
  }

  /** Resolves when there is room for another group. */
  async room(): Promise<void> {
    while (this.#waiting.length >= MOST) await this.#waiting.shift();
  }

  /** Resolves when all groups that were closed are written. */
  settled(): Promise<void> {
    return this.#written;
  }
}
