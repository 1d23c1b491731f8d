import { PAGE_SIZE } from "../content/page.ts";
import type { Piece, StreamInfo } from "../machines/machine.ts";
import type { Segmenter } from "../segment/segmenter.ts";
import { type Batch, MIN_CREDIT, SLICE_BYTES } from "./batch.ts";
import { noCounters } from "./counters.ts";
import { KeyTable } from "./key-table.ts";
import { FIRST_DIGEST } from "./running-digest.ts";

/** A stream's turn comes when it has this much input, has ended, or has been idle for a while. */
const TURN_BYTES = 1 << 20;
/** More input than this is not taken in. */
export const MAX_QUEUED = 4 << 20;
/** Milliseconds after which what has come is sent, and without input after which nothing is held back any more. */
export const IDLE_MS = 3;
/** So many times in a row may a segmenter wait for the rest of a page, as input still flows, if only slowly. */
const MAX_WAITS = 8;
/** So much within one such time ends any page that was begun. */
const FLOW_BYTES = 2 * PAGE_SIZE;

const ZEROS = Buffer.alloc(SLICE_BYTES);

/** One stream at the sender: its input, its segmenter, and what the peer has granted it. */
export class OutStream {
  readonly id: number;
  readonly info: StreamInfo;
  readonly counters = noCounters();
  readonly keys: KeyTable | undefined;
  readonly #segmenter: Segmenter;
  readonly #queue: Piece[] = [];
  readonly #wake: () => void;
  readonly #most: () => number;
  #queued = 0;
  /** How much of the first piece of the queue is segmented. */
  #at = 0;
  /** What has come is to be sent. */
  #due = false;
  /** And what the segmenter holds back. */
  #idle = false;
  /** Bytes that came since the timer was started. */
  #flowed = 0;
  #waits = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ended = false;
  #room: (() => void) | undefined;
  #granted: number;
  #spent = 0;
  #drained = Promise.withResolvers<void>();
  #landed = Promise.withResolvers<void>();
  #error: Error | undefined;
  /** The running digest after the batches so far. */
  digest: Uint8Array = FIRST_DIGEST;
  /** The last batch has been cut. */
  finished = false;
  /** The peer is told that this is all, and may answer. */
  closed = false;
  /** Resolves when the batches cut so far are written. */
  written: Promise<unknown> = Promise.resolve();

  /**
   * @param keyed whether pages come again, so that their last versions are to be remembered
   * @param granted credit to begin with; infinite where the other end can't answer
   * @param wake called when the stream may have become ready
   * @param most bytes of input that may wait
   */
  constructor(
    id: number,
    info: StreamInfo,
    segmenter: Segmenter,
    keyed: boolean,
    granted: number,
    wake: () => void,
    most: () => number = () => MAX_QUEUED,
  ) {
    this.id = id;
    this.info = info;
    this.keys = keyed ? new KeyTable() : undefined;
    this.#segmenter = segmenter;
    this.#granted = granted;
    this.#wake = wake;
    this.#most = most;
    this.#drained.promise.catch(() => {});
    this.#landed.promise.catch(() => {});
  }

  get error(): Error | undefined {
    return this.#error;
  }

  /** Resolves when all input is in batches. */
  get drained(): Promise<void> {
    return this.#drained.promise;
  }

  /** Resolves when the destination has the stream under its name; rejects with why it does not. */
  get landed(): Promise<void> {
    return this.#landed.promise;
  }

  get credit(): number {
    return this.#granted - this.#spent;
  }

  /** Takes a piece; resolves when there is room for another. Rejects once the stream has failed. */
  async push(piece: Piece): Promise<void> {
    if (this.#error) throw this.#error;
    this.#queue.push(piece);
    const length = "zeros" in piece ? piece.zeros : piece.bytes.length;
    this.#queued += length;
    // The rest of a large piece is not waited with either.
    if (this.#timer) this.#flowed += length;
    else this.#startTimer();
    if (this.#queued >= TURN_BYTES) this.#wake();
    if (this.#queued < this.#most()) return;
    await new Promise<void>((resolve) => {
      this.#room = resolve;
    });
    if (this.#error) throw this.#error;
  }

  /** Lets a `push` that waits go on, so that whoever pushes learns that it is to end. */
  unblock(): void {
    this.#release();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  grant(total: number): void {
    if (total > this.#granted) this.#granted = total;
    this.#wake();
  }

  /** Whether a batch may be cut now. */
  get ready(): boolean {
    if (this.finished || this.#error) return false;
    return (this.#queued >= TURN_BYTES || this.#ended || this.#due || this.#idle) && this.credit >= MIN_CREDIT;
  }

  /** Moves input into the batch until either is used up. */
  fill(batch: Batch): void {
    while (this.#queue.length > 0 && batch.hasRoom(this.credit)) this.#step(batch, this.#queue[0]!);
    if (this.#queue.length === 0) {
      // A source that waits for room has more: a page is not cut in two only because the link is slow.
      const more = this.#room !== undefined && !this.#ended;
      if (this.#ended || (this.#idle && !more)) this.#segmenter.flush(batch);
      this.#due = this.#idle = false;
      if (this.#ended) this.finished = true;
      if (more && !this.#timer) this.#startTimer();
    }
    this.#spent += batch.cost;
    if (this.#queued < this.#most()) this.#release();
  }

  /** What was filled is on its way, and `written` is of it. */
  dispatched(): void {
    if (this.finished) this.#drained.resolve();
  }

  /** The destination has it. */
  land(): void {
    this.#landed.resolve();
  }

  /** Takes no more input, and tells everybody who waits. */
  fail(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    clearTimeout(this.#timer);
    for (const piece of this.#queue.splice(0)) if ("bytes" in piece) piece.release?.();
    this.#queued = 0;
    this.#drained.reject(error);
    this.#landed.reject(error);
    this.#release();
    this.#wake();
  }

  #startTimer(): void {
    this.#flowed = 0;
    this.#timer = setTimeout(() => this.#fallDue(), IDLE_MS);
  }

  /** A page whose rest is about to come is not cut in two, which would make it a literal. */
  #fallDue(): void {
    this.#timer = undefined;
    this.#due = true;
    this.#waits = this.#flowed >= FLOW_BYTES ? 0 : this.#waits + 1;
    if (this.#flowed > 0 && this.#waits < MAX_WAITS) this.#startTimer();
    else {
      this.#waits = 0;
      this.#idle = true;
    }
    this.#wake();
  }

  #release(): void {
    this.#room?.();
    this.#room = undefined;
  }

  #step(batch: Batch, piece: Piece): void {
    const length = "zeros" in piece ? piece.zeros : piece.bytes.length;
    let end = Math.min(length, this.#at + SLICE_BYTES);
    if ("bytes" in piece) this.#segmenter.push(piece.bytes, this.#at, end, batch);
    else if (this.#segmenter.pushZeros) {
      end = length;
      this.#segmenter.pushZeros(length, batch);
    } else this.#segmenter.push(ZEROS, 0, end - this.#at, batch);
    this.#queued -= end - this.#at;
    this.#at = end;
    if (end < length) return;
    this.#at = 0;
    this.#queue.shift();
    if ("bytes" in piece) piece.release?.();
  }
}
