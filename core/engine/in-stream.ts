import type * as v from "valibot";
import { IntegrityError, ProtocolError, ShrinkerError } from "../errors.ts";
import type { Piece, StreamInfo, StreamSink, StreamTarget } from "../machines/machine.ts";
import type { Open } from "../wire/control.ts";
import { addCounters, type Counters, noCounters } from "./counters.ts";
import { FIRST_DIGEST } from "./running-digest.ts";

/** What an OPEN says of its stream. */
export function openedInfo({
  name,
  format,
  size,
  mode,
  mtime,
  connection,
  service,
}: v.InferOutput<typeof Open>): StreamInfo {
  return {
    name,
    format,
    ...(size !== undefined && { size }),
    ...(mode !== undefined && { mode }),
    ...(mtime !== undefined && { mtime }),
    ...(connection !== undefined && { connection }),
    ...(service !== undefined && { service }),
  };
}

export interface StreamEnd {
  readonly length: number;
  readonly digest: Uint8Array;
  readonly sha256: Uint8Array | undefined;
}

interface Entry {
  readonly piece: Piece;
  /** Credit to give back once it is written. */
  readonly cost: number;
}

/**
 * One stream at the receiver: what was resolved waits here until its sink takes it. A sink that stalls stops this stream
 * alone, as its sender runs out of credit.
 */
export class InStream {
  readonly id: number;
  readonly info: StreamInfo;
  readonly counters = noCounters();
  readonly #grant: (total: number) => void;
  readonly #queue: Entry[] = [];
  readonly #written = Promise.withResolvers<StreamSink>();
  readonly #failed = new AbortController();
  #sink: StreamSink | undefined;
  #wake: (() => void) | undefined;
  #room: (() => void) | undefined;
  #queued = 0;
  #received = 0;
  #consumed = 0;
  #granted = 0;
  #end: StreamEnd | undefined;
  #error: ShrinkerError | undefined;
  /** Credit that is kept open; none before the stream runs. */
  window = 0;
  /** The running digest after the batches so far. */
  digest: Uint8Array = FIRST_DIGEST;
  /** SHA-256 of the plain bytes, once written, where the sink or the source has computed it. */
  sha256: Uint8Array | undefined;

  /** @param grant tells the sender how much it may have sent in all */
  constructor(id: number, info: StreamInfo, grant: (total: number) => void) {
    this.id = id;
    this.info = info;
    this.#grant = grant;
    this.#written.promise.catch(() => {});
  }

  get error(): ShrinkerError | undefined {
    return this.#error;
  }

  /** Resolves with the sink, finished but not committed, when all is written and right. */
  get written(): Promise<StreamSink> {
    return this.#written.promise;
  }

  /**
   * Opens the sink and moves pieces into it until the stream ends.
   * @param window credit to keep open
   */
  async run(target: StreamTarget, window: number): Promise<void> {
    this.window = window;
    try {
      if (this.#error) throw this.#error;
      const sink = await target.open(this.info, this.#failed.signal);
      this.#sink = sink;
      if (this.#error) throw this.#error;
      this.#extend(window);
      for (let entry = await this.#next(); entry; entry = await this.#next()) {
        if ("zeros" in entry.piece) await sink.zeros(entry.piece.zeros);
        else await sink.write(entry.piece);
        this.#consume(entry.cost);
      }
      await this.#finish(sink);
      this.#written.resolve(sink);
    } catch (error) {
      this.fail(error);
      await this.#sink?.abort();
    }
  }

  /** Counts a batch against the stream's credit. Throws a `ProtocolError` where there is none left. */
  charge(cost: number): void {
    this.#received += cost;
    if (this.#received > this.#granted) {
      throw new ProtocolError(`The peer sent more of "${this.info.name}" than it has credit for`);
    }
  }

  /** Takes the bytes of a batch. */
  put(pieces: readonly Piece[], counters: Counters, digest: Uint8Array, cost: number): void {
    this.digest = digest;
    addCounters(this.counters, counters);
    if (!Number.isSafeInteger(this.counters.plain)) throw new ProtocolError(`"${this.info.name}" is too long`);
    if (this.#error) {
      for (const piece of pieces) if ("bytes" in piece) piece.release?.();
      this.#consume(cost);
      return;
    }
    if (pieces.length === 0) this.#consume(cost);
    pieces.forEach((piece, i) => {
      this.#queue.push({ piece, cost: i === pieces.length - 1 ? cost : 0 });
    });
    if (pieces.length > 0) this.#queued += cost;
    this.#wake?.();
  }

  /** Resolves when less than the window waits: for a sender that knows no credit. */
  async drained(): Promise<void> {
    while (this.#queued > this.window && !this.#error) {
      await new Promise<void>((resolve) => {
        this.#room = resolve;
      });
    }
  }

  /** The sender has sent all. */
  end(end: StreamEnd): void {
    this.#end = end;
    this.#wake?.();
  }

  /** Gives the stream up; what has been written is removed by `run`. */
  fail(error: unknown): void {
    if (this.#error) return;
    this.#error =
      error instanceof ShrinkerError
        ? error
        : new ShrinkerError("bug", `"${this.info.name}" failed: ${String(error)}`, { cause: error });
    for (const { piece, cost } of this.#queue.splice(0)) {
      if ("bytes" in piece) piece.release?.();
      this.#consume(cost);
    }
    this.#written.reject(this.#error);
    this.#failed.abort(this.#error);
    this.#wake?.();
    this.#room?.();
  }

  async #next(): Promise<Entry | undefined> {
    for (;;) {
      if (this.#error) throw this.#error;
      const entry = this.#queue.shift();
      if (entry) return entry;
      if (this.#end) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #consume(cost: number): void {
    this.#consumed += cost;
    this.#queued = Math.max(0, this.#queued - cost);
    if (this.#consumed + this.window - this.#granted >= this.window / 4) this.#extend(this.#consumed + this.window);
    this.#room?.();
  }

  #extend(total: number): void {
    this.#granted = total;
    this.#grant(total);
  }

  async #finish(sink: StreamSink): Promise<void> {
    const { length, digest, sha256 } = this.#end!;
    if (length !== this.counters.plain || Buffer.compare(digest, this.digest) !== 0) {
      throw new IntegrityError(`"${this.info.name}" differs from what was sent: send it again`);
    }
    await sink.finish();
    // A sink that doesn't compute it has what the source says, of bytes that are the source's.
    this.sha256 = (await sink.plainDigest?.()) ?? sha256;
    if (this.#error) throw this.#error;
    if (sha256 && this.sha256 && Buffer.compare(sha256, this.sha256) !== 0) {
      throw new IntegrityError(`"${this.info.name}" has another SHA-256 than at the source: send it again`);
    }
  }
}
