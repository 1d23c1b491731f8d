const CAPACITY = 1 << 18;

/** A reader's grammar: yields how many bytes it needs where they are not there yet. */
export type Grammar<Result> = Generator<number, Result, void>;

/**
 * Bytes that have come and were not read yet. What is read is only where it is until the grammar waits again.
 * No grammar may ask for more than 64 KiB at once.
 */
export class StreamInput {
  readonly bytes: Buffer = Buffer.alloc(CAPACITY);
  #start = 0;
  #end = 0;

  get available(): number {
    return this.#end - this.#start;
  }

  /** Takes as much of `from[at, ...)` as there is room for, and returns how much. */
  fill(from: Uint8Array, at: number): number {
    this.bytes.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    const taken = Math.min(from.length - at, CAPACITY - this.#end);
    this.bytes.set(from.subarray(at, at + taken), this.#end);
    this.#end += taken;
    return taken;
  }

  /** Where the next `length` bytes are, which are there and thereby count as read. */
  take(length: number): number {
    this.#start += length;
    return this.#start - length;
  }

  *byte(): Grammar<number> {
    if (this.available < 1) yield 1;
    return this.bytes[this.take(1)]!;
  }

  *be16(): Grammar<number> {
    if (this.available < 2) yield 2;
    return this.bytes.readUInt16BE(this.take(2));
  }

  *be32(): Grammar<number> {
    if (this.available < 4) yield 4;
    return this.bytes.readUInt32BE(this.take(4));
  }

  /** Above 2^53 it loses digits. */
  *be64(): Grammar<number> {
    return (yield* this.be32()) * 2 ** 32 + (yield* this.be32());
  }

  /** A copy of the next bytes, at most 64 KiB. */
  *copy(length: number): Grammar<Buffer> {
    if (this.available < length) yield length;
    const at = this.take(length);
    return Buffer.from(this.bytes.subarray(at, at + length));
  }

  /** A name behind its length; what is not printable is written as `?`. */
  *name(): Grammar<string> {
    const length = yield* this.byte();
    return (yield* this.copy(length)).toString("latin1").replace(/[^ -~]/g, "?");
  }

  *skip(length: number): Grammar<void> {
    for (let left = length; left > 0; ) {
      if (this.available === 0) yield 1;
      const taken = Math.min(left, this.available);
      this.take(taken);
      left -= taken;
    }
  }
}
