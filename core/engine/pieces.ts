import type { Piece } from "../machines/machine.ts";

/** Shorter runs of zeros are written out: a piece for each would cost more than the bytes. */
const MIN_HOLE = 16 << 10;
/** So few are copied faster one by one than by a call. */
const FEW_BYTES = 32;
export const PIECE_BYTES = 1 << 20;

/** Buffers have this length, or a half of it, or a quarter, and so on to this. */
const LEAST_BYTES = 64 << 10;

/** Buffers of a few sizes, used again. Taking never waits: credit bounds how many are out. */
export class PiecePool {
  readonly #free = new Map<number, Uint8Array[]>();
  readonly #keep: number;
  #kept = 0;

  /** @param keep bytes of idle buffers that are kept for later */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** A buffer for `length` bytes, or of the largest size. */
  take(length = PIECE_BYTES): Uint8Array {
    let size = PIECE_BYTES;
    while (size > LEAST_BYTES && size / 2 >= length) size /= 2;
    const buffer = this.#free.get(size)?.pop();
    if (!buffer) return new Uint8Array(size);
    this.#kept -= size;
    return buffer;
  }

  give(buffer: Uint8Array): void {
    const size = buffer.byteLength;
    if (this.#kept + size > this.#keep || size < LEAST_BYTES || size > PIECE_BYTES) return;
    this.#kept += size;
    const free = this.#free.get(size);
    if (free) free.push(buffer);
    else this.#free.set(size, [buffer]);
  }
}

/** Puts a batch's bytes together into pieces that each own their memory. */
export class PieceBuilder {
  readonly #pool: PiecePool;
  #pieces: Piece[] = [];
  #buffer: Buffer;
  #at = 0;

  constructor(pool: PiecePool) {
    this.#pool = pool;
    this.#buffer = asBuffer(pool.take());
  }

  /** Begins a batch of about so many bytes. */
  begin(length: number): void {
    const buffer = this.#pool.take(length);
    this.#pool.give(this.#buffer);
    this.#buffer = asBuffer(buffer);
  }

  /** Copies `source[start, end)` in. */
  put(source: Buffer, start: number, end: number): void {
    // Between the pages of a guest's memory lie their headers, of a few bytes.
    if (end - start <= FEW_BYTES && this.#at + (end - start) < this.#buffer.length) {
      for (let from = start; from < end; from++) this.#buffer[this.#at++] = source[from]!;
      return;
    }
    for (let from = start; from < end; ) {
      const part = source.copy(this.#buffer, this.#at, from, end);
      from += part;
      this.#advance(part);
    }
  }

  zeros(length: number): void {
    if (length >= MIN_HOLE) {
      this.#flush();
      this.#pieces.push({ zeros: length });
      return;
    }
    for (let left = length; left > 0; ) {
      const part = Math.min(left, this.#buffer.length - this.#at);
      this.#buffer.fill(0, this.#at, this.#at + part);
      left -= part;
      this.#advance(part);
    }
  }

  /** The pieces so far; begins anew. */
  take(): Piece[] {
    this.#flush();
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }

  #advance(bytes: number): void {
    this.#at += bytes;
    if (this.#at === this.#buffer.length) this.#flush();
  }

  #flush(): void {
    if (this.#at === 0) return;
    // What keeps a pooled buffer is to fill half of it.
    if (this.#at < this.#buffer.length / 2) {
      this.#pieces.push({ bytes: new Uint8Array(this.#buffer.subarray(0, this.#at)) });
    } else {
      const own = this.#buffer;
      // Whoever hashes the bytes on another thread gives back another buffer of the same size.
      const release = (buffer: Uint8Array = own) => this.#pool.give(buffer);
      this.#pieces.push({ bytes: this.#buffer.subarray(0, this.#at), release });
      this.#buffer = asBuffer(this.#pool.take());
    }
    this.#at = 0;
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
