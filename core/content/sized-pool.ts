/** Buffers have a length of the largest, or a half of it, or a quarter, and so on to this. */
const LEAST_BYTES = 64 << 10;

/** Buffers of a few sizes, used again: memory that is touched for the first time costs more than a copy to it. Taking never waits. */
export class SizedPool {
  readonly #free = new Map<number, Uint8Array<ArrayBuffer>[]>();
  readonly #largest: number;
  readonly #keep: number;
  #kept = 0;

  /**
   * @param largest bytes of the largest buffer; a power of two
   * @param keep bytes of idle buffers that are kept for later
   */
  constructor(largest: number, keep: number) {
    this.#largest = largest;
    this.#keep = keep;
  }

  /** A buffer for `length` bytes, alone in its memory; where that is more than the largest holds, it is of the largest size. */
  take(length = this.#largest): Uint8Array<ArrayBuffer> {
    let size = this.#largest;
    while (size > LEAST_BYTES && size / 2 >= length) size /= 2;
    const buffer = this.#free.get(size)?.pop();
    if (!buffer) return new Uint8Array(size);
    this.#kept -= size;
    return buffer;
  }

  give(buffer: Uint8Array): void {
    const size = buffer.byteLength;
    if (this.#kept + size > this.#keep || size < LEAST_BYTES || size > this.#largest) return;
    this.#kept += size;
    const own = buffer as Uint8Array<ArrayBuffer>;
    const free = this.#free.get(size);
    if (free) free.push(own);
    else this.#free.set(size, [own]);
  }
}
