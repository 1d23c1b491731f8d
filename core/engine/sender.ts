import { PAGE_SIZE } from "../content/page.ts";
import { PageWorker } from "../content/page-worker.ts";
import { type ErrorCode, ProtocolError, ShrinkerError } from "../errors.ts";
import { DigestTable } from "../index/digest-table.ts";
import type { StreamInfo, StreamSource } from "../machines/machine.ts";
import { segmentFormats } from "../segment/registry.ts";
import { ContentFile } from "../store/content-file.ts";
import { Close, encodeControl, encodeNumber, Open, Reset } from "../wire/control.ts";
import { FRAME } from "../wire/numbers.ts";
import { Batch } from "./batch.ts";
import { BatchEncoder } from "./batch-encoder.ts";
import { Classifier } from "./classify.ts";
import type { CodecPolicy } from "./codec-policy.ts";
import { addCounters, type Counters, noCounters } from "./counters.ts";
import { DrainRate } from "./drain-rate.ts";
import type { ContentKeeper } from "./keeper.ts";
import { KnownLedger } from "./known.ts";
import type { Link } from "./link.ts";
import { MAX_QUEUED, OutStream } from "./out-stream.ts";
import type { SiteKnowledge } from "./site.ts";
import { asShrinkerError, heard, told } from "./told.ts";
import { Turns } from "./turns.ts";

/** Batches in flight between segmenting and the link: one is filled, two digested, one encoded, one written. */
export const BATCHES = 6;

export interface SenderOptions {
  /** Window for contents, as negotiated. */
  readonly windowLog: number;
  /** How many of the last contents may be referred to, as negotiated. */
  readonly logLimit: number;
  /** A folder on a disk for what pages were sent last. */
  readonly spoolDir: string;
  readonly codec: CodecPolicy;
  /** What the destination holds from elsewhere. */
  readonly site?: Pick<SiteKnowledge, "index" | "past"> | undefined;
  /** Given every new content before it is sent. */
  readonly keepers?: readonly ContentKeeper[] | undefined;
  /** The number of the first stream; 1 unless it is said otherwise. */
  readonly firstStream?: number;
}

/** What became of a stream. */
export interface SentStream {
  readonly info: StreamInfo;
  readonly digest: Uint8Array;
  readonly sha256: Uint8Array | undefined;
  readonly counters: Counters;
  /** Resolves when the destination has it under its name; rejects with why it does not. Where it can't answer: at once. */
  readonly landed: Promise<void>;
}

/**
 * The sending direction of a session: one content log, many streams. Each batch goes through five stages, each in the
 * order of the batches: fill (segment), digest, number and classify (look up), encode, write.
 */
export class Sender {
  readonly counters = noCounters();
  readonly #link: Link;
  readonly #options: SenderOptions;
  readonly #log = new DigestTable();
  readonly #known = new KnownLedger();
  readonly #streams = new Map<number, OutStream>();
  readonly #free: Batch[] = [];
  readonly #turns = new Turns();
  readonly #encoder: BatchEncoder;
  readonly #classifier: Classifier;
  readonly #worker = new PageWorker();
  readonly #drain = new DrainRate();
  #spool: ContentFile | undefined;
  #made = 0;
  #nextId: number;
  #classified: Promise<unknown> = Promise.resolve();
  #encoded: Promise<unknown> = Promise.resolve();
  #written: Promise<unknown> = Promise.resolve();
  #pumping = false;
  #error: Error | undefined;

  constructor(link: Link, options: SenderOptions) {
    this.#link = link;
    this.#options = options;
    this.#nextId = options.firstStream ?? 1;
    this.#encoder = new BatchEncoder(options.windowLog);
    this.#classifier = new Classifier({
      site: options.site && { ...options.site, known: link.duplex ? this.#known : undefined },
      keepers: options.keepers ?? [],
      separateNoise: () => options.codec.fillsWindow,
      wantsXors: () => options.codec.wantsXors,
    });
  }

  /** Sends a stream. Rejects with what made it fail; the session may go on. */
  async send(source: StreamSource, signal: AbortSignal): Promise<SentStream> {
    const stream = await this.#open(source.info);
    // A source that waits for its input learns that nobody takes it any more.
    const failed = new AbortController();
    stream.landed.catch((error) => failed.abort(error));
    const unblock = () => stream.unblock();
    signal.addEventListener("abort", unblock, { once: true });
    try {
      const pieces = source.pieces(AbortSignal.any([signal, failed.signal]));
      for await (const piece of pieces) await stream.push(piece);
      stream.end();
      await stream.drained;
      await stream.written;
      const sha256 = await source.plainDigest?.();
      if (stream.error) throw stream.error;
      const { counters, digest } = stream;
      const close = { stream: stream.id, length: counters.plain, digest, ...(sha256 && { sha256 }) };
      stream.closed = true;
      await this.#link.control(FRAME.CLOSE, encodeControl(Close, close));
      if (!this.#link.duplex) stream.land();
      return { info: source.info, digest, sha256, counters, landed: stream.landed };
    } catch (error) {
      const first = stream.error ?? error;
      await this.#abandon(stream, first);
      throw first;
    } finally {
      signal.removeEventListener("abort", unblock);
    }
  }

  /**
   * Has the streams of a service go before all others, and little wait on the way, until the function is called that it returns: a
   * guest stands still.
   */
  hurry(service: string): () => void {
    this.#turns.hurry(service);
    this.#link.flow.hurry(true);
    return () => {
      this.#turns.calm(service);
      this.#link.flow.hurry(this.#turns.hurried);
      this.#pump();
    };
  }

  credit(id: number, total: number): void {
    this.#streams.get(id)?.grant(total);
  }

  /** The destination has a stream. Throws a `ProtocolError` where it can't have all of it yet: who waits for the rest would wait for ever. */
  landed(id: number): void {
    const stream = this.#streams.get(id);
    if (stream && !stream.closed)
      throw new ProtocolError(`The peer has "${stream.info.name}" before it was sent whole`);
    stream?.land();
    this.#streams.delete(id);
  }

  /** The destination has given a stream up. */
  reset(id: number, code: ErrorCode, message: string): void {
    this.#streams.get(id)?.fail(heard(code, message));
    this.#streams.delete(id);
  }

  /** The destination did not find a content by its digest. */
  want(number: number): void {
    this.#known.want(number);
    if (!this.#spool || number >= this.#spool.next || number < this.#spool.low) {
      throw new ProtocolError(`The peer asks for content ${number}, which is not held`);
    }
    const page = Buffer.alloc(PAGE_SIZE);
    this.#spool.read(number, 1, page, 0);
    void this.#link.control(FRAME.CONTENT, Buffer.concat([encodeNumber(number), page])).catch(() => {});
  }

  resolved(number: number): void {
    this.#known.resolved(number);
  }

  /** The destination is done: what became of a stream it has told by now. */
  settle(): void {
    for (const stream of this.#streams.values())
      stream.fail(new ProtocolError(`The peer did not say what became of "${stream.info.name}"`));
    this.#streams.clear();
  }

  /** Ends every stream, and the link once the destination has been told; nothing more is sent. */
  fail(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    for (const stream of this.#streams.values()) stream.fail(error);
    void this.#link.abort(error);
  }

  /** Gives back what the direction holds, once its stages are done. */
  async close(): Promise<void> {
    await Promise.allSettled([this.#classified, this.#encoded, this.#written]);
    this.#worker.close();
    this.#encoder.close();
    this.#spool?.close();
  }

  async #open(info: StreamInfo): Promise<OutStream> {
    if (this.#error) throw this.#error;
    const format = segmentFormats.get(info.format);
    if (!format) throw new ShrinkerError("usage", `Unknown format "${info.format}" of "${info.name}"`);
    const keyed = format.keyed && this.#options.codec.compresses;
    const asked = this.#options.site && this.#link.duplex;
    if ((keyed || asked) && !this.#spool) {
      this.#spool = new ContentFile(this.#options.spoolDir, this.#log.next);
    }
    const id = this.#nextId++;
    const granted = this.#link.duplex ? 0 : Number.POSITIVE_INFINITY;
    // What a connection brings is not to run ahead of the link.
    const live = info.connection !== undefined;
    const most = () => (live ? Math.min(MAX_QUEUED, this.#drain.room(this.#streams.size)) : MAX_QUEUED);
    const stream = new OutStream(id, info, format.create(), keyed, granted, () => this.#pump(), most);
    this.#streams.set(id, stream);
    await this.#link.control(FRAME.OPEN, encodeControl(Open, { stream: id, ...info }));
    return stream;
  }

  async #abandon(stream: OutStream, error: unknown): Promise<void> {
    const peerKnows = stream.error !== undefined;
    stream.fail(asShrinkerError(error));
    this.#streams.delete(stream.id);
    if (peerKnows || this.#error) return;
    const reset = encodeControl(Reset, { stream: stream.id, ...told(error) });
    await this.#link.control(FRAME.RESET, reset).catch(() => {});
  }

  /** Cuts a batch if a stream is ready and a batch is free. One a turn: reads and writes are served between them. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      const batch = this.#error ? undefined : (this.#free.pop() ?? this.#make());
      if (!batch) return;
      // Only now: a stream whose turn it is without a batch for it would lose the turn.
      const stream = this.#turns.next(this.#streams, this.#made - this.#free.length === 1);
      if (!stream) {
        this.#free.push(batch);
        return;
      }
      batch.reset(stream.id);
      stream.fill(batch);
      if (batch.segments > 0) this.#dispatch(batch, stream);
      else this.#free.push(batch);
      stream.dispatched();
      this.#pump();
    });
  }

  #make(): Batch | undefined {
    if (this.#made === BATCHES) return undefined;
    this.#made++;
    return new Batch();
  }

  #dispatch(batch: Batch, stream: OutStream): void {
    const digested = batch.digest(this.#worker);
    const classified = Promise.all([this.#classified, digested]).then(() => {
      this.#number(batch, stream);
      return this.#classifier.classify(batch, this.#spool);
    });
    const encoded = Promise.all([this.#encoded, classified]).then(() => this.#encode(batch, stream));
    const written = Promise.all([this.#written, encoded]).then(([, parts]) => this.#write(batch, parts));
    this.#classified = classified;
    this.#encoded = encoded;
    this.#written = written;
    stream.written = written;
    written.catch((error) => this.fail(error));
  }

  #number(batch: Batch, stream: OutStream): void {
    this.#log.forget(this.#log.next - this.#options.logLimit);
    try {
      batch.number(this.#log, stream.keys);
    } catch (error) {
      throw error instanceof RangeError ? logFull(error) : error;
    }
  }

  async #encode(batch: Batch, stream: OutStream): Promise<Uint8Array[]> {
    const { codec } = this.#options;
    stream.digest = batch.finish(stream.digest);
    addCounters(stream.counters, batch.counters);
    addCounters(this.counters, batch.counters);
    const chosen = codec.next();
    const since = performance.now();
    const parts = await this.#encoder.encode(batch, stream.digest, chosen);
    codec.encoded?.(chosen, batch.counters.fresh, totalLength(parts), performance.now() - since);
    return parts;
  }

  async #write(batch: Batch, parts: readonly Uint8Array[]): Promise<void> {
    const since = performance.now();
    await this.#link.bulk(FRAME.BATCH, parts);
    this.#drain.left(batch.counters.plain);
    this.#options.codec.written?.(totalLength(parts), performance.now() - since, this.#link.flow.spare / 1000);
    this.#free.push(batch);
    this.#pump();
  }
}

function totalLength(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

function logFull(error: RangeError): ShrinkerError {
  const message = "The session has 16 TiB of distinct contents, its limit: move fewer machines at once";
  return new ShrinkerError("input", message, { cause: error });
}
