/**
 * A segmenter cuts one direction of a connection into literals, chunks and zeros. Concatenating what it emits gives its
 * input back, whatever the input and however it arrives in pieces. It is the only part that knows a stream's format.
 */

/** A chunk of a stream in which no content is sent again under the same address. */
export const NO_KEY = -1;

/**
 * Takes segments, in order. Calls are synchronous and the bytes are only lent: what a sink keeps, it copies.
 * Offsets are passed instead of views, so that a page costs no allocation.
 */
export interface SegmentSink {
  /** `bytes[start, end)` as they are. */
  literal(bytes: Uint8Array, start: number, end: number): void;
  /**
   * `bytes[start, start + 4096)`, a page or block.
   * @param key a whole number in [0, 2^53) that names the page's place in its machine, alike for each version of it, or `NO_KEY`
   */
  chunk(bytes: Uint8Array, start: number, key: number): void;
  /** `length` zero bytes; `length` > 0 and at most 2^53 - 1. */
  zero(length: number): void;
}

/** One direction of one connection. Not shared; keeps its state between pieces. */
export interface Segmenter {
  /**
   * Takes the next bytes, `bytes[start, end)`, of any length, and emits what it can decide. It may hold back less than
   * `MAX_HELD` bytes (copied: the piece is only lent). Never throws: input that makes no sense is emitted as literals.
   */
  push(bytes: Uint8Array, start: number, end: number, sink: SegmentSink): void;
  /**
   * Takes `length` zero bytes that nobody had to read (a hole of a file). Optional: where it is missing, the caller
   * pushes zero bytes.
   */
  pushZeros?(length: number, sink: SegmentSink): void;
  /**
   * Emits everything held back, as literals where it is not whole. Called when the input falls idle, for the peer may be
   * waiting for just these bytes, and at the end. More input may follow, and is segmented as before.
   */
  flush(sink: SegmentSink): void;
  /** Sees the bytes of the opposite direction as they are written out (an NBD reply's length is known from its request). */
  observe?(bytes: Uint8Array, start: number, end: number): void;
}

/** The most that a segmenter may hold back: a page and what precedes it. */
export const MAX_HELD = 8192;

/** A format, as the registry lists it. */
export interface SegmentFormat {
  /** Its name, in `--format`, in summaries and on the wire. */
  readonly name: string;
  /** Whether its chunks carry keys, so that a page may be sent again and be worth a `DELTA`. */
  readonly keyed: boolean;
  /** Whether a stream that begins with these bytes (at least 8, unless the stream is shorter) is of this format. */
  matches?(head: Uint8Array): boolean;
  create(): Segmenter;
}
