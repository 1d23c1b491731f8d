import { createHash } from "node:crypto";
import { DIGEST_SIZE } from "../content/page.ts";
import { putU64 } from "../wire/bytes.ts";
import { MAX_BATCH_SEGMENTS, SEGMENT } from "../wire/numbers.ts";

const LENGTH_RECORD = 9;

/**
 * The digest that a stream has after each batch: SHA-256 over the digest before it, a record for each segment (its tag,
 * and the length of a literal or zero), the digests of all chunks, and the bytes of all literals. Both ends compute it
 * from what they hold themselves, so it proves the bytes from end to end.
 */
export class RunningDigest {
  readonly #records = Buffer.alloc(MAX_BATCH_SEGMENTS * LENGTH_RECORD);
  #end = 0;

  /** Starts a batch. */
  reset(): void {
    this.#end = 0;
  }

  /** Records a chunk; its digest is given to `finish`. */
  chunk(): void {
    this.#records[this.#end++] = SEGMENT.CHUNK;
  }

  literal(length: number): void {
    this.#length(SEGMENT.LITERAL, length);
  }

  zero(length: number): void {
    this.#length(SEGMENT.ZERO, length);
  }

  /**
   * The stream's digest after this batch.
   * @param digests of all chunks, in order, 32 bytes each
   */
  finish(previous: Uint8Array, digests: Uint8Array, literals: Uint8Array): Buffer {
    return createHash("sha256")
      .update(previous)
      .update(this.#records.subarray(0, this.#end))
      .update(digests)
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
