import type { Piece } from "../machines/machine.ts";

/** Shorter runs of zeros are written out: a piece for each would cost more than the bytes. */
const MIN_HOLE = 16 << 10;
/** Pieces from this length on keep the pooled buffer that they were built in; shorter ones are copied out of it. */
const POOLED = 512 << 10;
/** So few are copied faster one by one than by a call. */
const FEW_BYTES = 32;
export const PIECE_BYTES = 1 << 20;

/** Buffers of one size, used again. Taking never waits: credit bounds how many are out. */
export class PiecePool {
  readonly #free: Uint8Array[] = [];
  readonly #keep: number;

  /** @param keep how many idle buffers are kept for later */
  constructor(keep: number) {
    this.#keep = keep;
  }

  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(PIECE_BYTES);
  }

  give(buffer: Uint8Array): void {
    if (buffer.byteLength === PIECE_BYTES && this.#free.length < this.#keep) this.#free.push(buffer);
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

  /** Copies `source[start, end)` in. */
  put(source: Buffer, start: number, end: number): void {
    // Between the pages of a guest's memory lie their headers, of a few bytes.
    if (end - start <= FEW_BYTES && this.#at + (end - start) < PIECE_BYTES) {
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
      const part = Math.min(left, PIECE_BYTES - this.#at);
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
    if (this.#at === PIECE_BYTES) this.#flush();
  }

  #flush(): void {
    if (this.#at === 0) return;
    if (this.#at < POOLED) {
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
