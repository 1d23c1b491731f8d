import { createHash } from "node:crypto";
import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE } from "../content/page.ts";
import { sha256Into } from "../runtime.ts";
import { putU64 } from "../wire/bytes.ts";
import { MAX_BATCH_PLAIN, MAX_BATCH_SEGMENTS, SEGMENT } from "../wire/numbers.ts";

const MAX_CHUNKS = MAX_BATCH_PLAIN / PAGE_SIZE;
const LENGTH_RECORD = 9;

/**
 * The digest that a stream has after each batch: SHA-256 over the digest before it, a record for each segment (its tag,
 * and the length of a literal or zero), the digests of all chunks, and the bytes of all literals. Both ends compute it
 * from what they hold themselves, so it proves the bytes from end to end.
 */
export class RunningDigest {
  /** The chunks' digests, as 32-bit words, in their order. */
  readonly words: Int32Array;
  readonly #digests: Buffer;
  readonly #views: Uint8Array[];
  readonly #records = Buffer.alloc(MAX_BATCH_SEGMENTS * LENGTH_RECORD);
  #chunks = 0;
  #end = 0;

  constructor() {
    const digests = new ArrayBuffer(MAX_CHUNKS * DIGEST_SIZE);
    this.words = new Int32Array(digests);
    this.#digests = Buffer.from(digests);
    this.#views = Array.from({ length: MAX_CHUNKS }, (_, i) => new Uint8Array(digests, i * DIGEST_SIZE, DIGEST_SIZE));
  }

  /** Starts a batch. */
  reset(): void {
    this.#chunks = 0;
    this.#end = 0;
  }

  /** Digests the next chunk's 4096 bytes; returns where its digest begins in `words`. */
  digest(page: Uint8Array): number {
    const at = this.#chunks++;
    sha256Into(page, this.#views[at]!);
    return at * DIGEST_WORDS;
  }

  /** Records a chunk; its digest is given to `digest`, before or after. */
  chunk(): void {
    this.#records[this.#end++] = SEGMENT.CHUNK;
  }

  literal(length: number): void {
    this.#length(SEGMENT.LITERAL, length);
  }

  zero(length: number): void {
    this.#length(SEGMENT.ZERO, length);
  }

  /** The stream's digest after this batch. */
  finish(previous: Uint8Array, literals: Uint8Array): Buffer {
    return createHash("sha256")
      .update(previous)
      .update(this.#records.subarray(0, this.#end))
      .update(this.#digests.subarray(0, this.#chunks * DIGEST_SIZE))
      .update(literals)
      .digest();
  }

  #length(tag: number, length: number): void {
    this.#records[this.#end] = tag;
    putU64(this.#records, length, this.#end + 1);
    this.#end += LENGTH_RECORD;
  }
}

/** The running digest of a stream before its first batch. */
export const FIRST_DIGEST: Uint8Array = new Uint8Array(DIGEST_SIZE);
