import type { SizedPool } from "../content/sized-pool.ts";
import type { Piece } from "../machines/machine.ts";

/** Shorter runs of zeros are written out: a piece for each would cost more than the bytes. */
const MIN_HOLE = 16 << 10;
/** So few are copied faster one by one than by a call. */
const FEW_BYTES = 32;
/** Of the largest piece. */
export const PIECE_BYTES = 1 << 20;

/** Puts a batch's bytes together into pieces that each own their memory. */
export class PieceBuilder {
  readonly #pool: SizedPool;
  #pieces: Piece[] = [];
  #buffer: Buffer;
  #at = 0;

  constructor(pool: SizedPool) {
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
