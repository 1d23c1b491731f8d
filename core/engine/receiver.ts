import { SizedPool } from "../content/sized-pool.ts";
import { type ErrorCode, ProtocolError } from "../errors.ts";
import { ContentFile } from "../store/content-file.ts";
import type { NumberSet } from "../store/number-set.ts";
import { decodeBatch } from "../wire/batch.ts";
import { Close, decodeContent, decodeControl, encodeNumber } from "../wire/control.ts";
import type { Frame } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { BatchDecoder, DecodeBuffers, type DecodedBatch } from "./batch-decoder.ts";
import { batchCost, checkBounds } from "./bounds.ts";
import { addCounters, noCounters } from "./counters.ts";
import { ContentFinder, type FoundContents, NOTHING_FOUND } from "./finder.ts";
import type { InStream } from "./in-stream.ts";
import type { ContentKeeper } from "./keeper.ts";
import type { Link } from "./link.ts";
import { listKnown } from "./list-known.ts";
import { PIECE_BYTES } from "./pieces.ts";
import { type ReceivedStream, ReceivedStreams, type ReceivedStreamsOptions } from "./received-streams.ts";
import { Resolver } from "./resolver.ts";
import type { DestinationSite } from "./site.ts";

/** Sets of decoding buffers: one batch is decoded while another is resolved. */
const DECODING = 3;
/** A recording comes as fast as it is taken, and what it leaves out has its way from the disk over two threads. */
const DECODING_RECORDED = 8;
/** Bytes of idle buffers. */
export const KEPT_PIECES = 24 << 20;

export interface ReceiverOptions extends ReceivedStreamsOptions {
  readonly windowLog: number;
  /** How many of the last contents a batch may refer to, as negotiated. */
  readonly logLimit: number;
  /** A folder on a disk for the contents that arrive. */
  readonly spoolDir: string;
  /** What is here from before the session. */
  readonly site: DestinationSite;
  readonly keepers: readonly ContentKeeper[];
  /** Of a recording that was looked through: the contents that batches after their own refer to. Undefined where any may be. */
  readonly referred?: NumberSet | undefined;
}

/** The receiving direction of a session: decodes and resolves batches in their one order, and gives each stream its bytes. */
export class Receiver {
  readonly counters = noCounters();
  readonly #link: Link;
  readonly #options: ReceiverOptions;
  readonly #pool = new SizedPool(PIECE_BYTES, KEPT_PIECES);
  readonly #store: ContentFile;
  readonly #decoder: BatchDecoder;
  readonly #resolver: Resolver;
  readonly #finder: ContentFinder;
  readonly #streams: ReceivedStreams;
  readonly #buffers: readonly DecodeBuffers[];
  #decoded: Promise<unknown> = Promise.resolve();
  #resolved: Promise<unknown> = Promise.resolve();
  #freed: Promise<unknown>[] = [];
  #batches = 0;
  #nextContent = 0;
  #forgotten = 0;
  #summarized = false;
  #error: Error | undefined;

  constructor(link: Link, options: ReceiverOptions) {
    this.#link = link;
    this.#options = options;
    this.#streams = new ReceivedStreams(link, options);
    this.#store = new ContentFile(options.spoolDir, 0, undefined, options.referred);
    const sets = link.duplex ? DECODING : DECODING_RECORDED;
    this.#buffers = Array.from({ length: sets }, () => new DecodeBuffers());
    this.#decoder = new BatchDecoder(options.windowLog);
    this.#resolver = new Resolver(this.#store, this.#pool, options.keepers, options.referred);
    const ask = (number: number) => void link.control(FRAME.WANT, encodeNumber(number)).catch(() => {});
    this.#finder = new ContentFinder(options.site.brokers, link.duplex ? ask : undefined, options.index);
  }

  /** Every stream that was opened, in that order. */
  get streams(): readonly InStream[] {
    return this.#streams.all;
  }

  /** OPEN: makes room for a stream. */
  open(payload: Buffer): void {
    this.#check();
    this.#streams.open(payload);
  }

  /** SUMMARIZE: what is held here. */
  summarize(bits: 8 | 16): Promise<Uint8Array> {
    this.#check();
    if (this.#summarized || this.#streams.some || !this.#options.site.info)
      throw new ProtocolError("The peer asks for a summary where none is due");
    this.#summarized = true;
    return this.#options.site.summary(bits);
  }

  /** BATCH. Resolves at once where the sender knows credit, else when there is room for another. */
  async batch(frame: Frame): Promise<void> {
    this.#check();
    const { header, columns } = decodeBatch(frame.payload);
    const stream = this.#streams.of(header.stream);
    if (header.first !== this.#nextContent || header.forget < this.#forgotten || header.forget > header.first) {
      throw new ProtocolError(`A batch begins with content ${header.first} where ${this.#nextContent} is due`);
    }
    if (header.first - header.forget > this.#options.logLimit) {
      throw new ProtocolError(`The peer keeps more than the ${this.#options.logLimit} contents that were agreed on`);
    }
    this.#nextContent += header.count;
    this.#forgotten = header.forget;
    const cost = batchCost(header.plain, header.segments);
    if (this.#link.duplex) stream.charge(cost);
    checkBounds(header, columns);
    const sets = this.#buffers.length;
    const buffers = this.#buffers[this.#batches % sets]!;
    const free = this.#freed[this.#batches++ % sets];
    const decoded = Promise.all([this.#decoded, free]).then(() => this.#decoder.decode(header, columns, buffers));
    // Looked for as soon as they are known, ahead of the writing position.
    const known = decoded.then((batch) => this.#find(batch));
    const resolved = Promise.all([this.#resolved, decoded, known]).then(async ([, batch, found]) => {
      // Nothing can be whole any more, and what else is missing is to be told as well.
      if (!found || this.#finder.missing.some) return;
      const { pieces, counters } = await this.#resolver.resolve(batch, found, stream.digest);
      addCounters(this.counters, counters);
      // A copy: the frame's memory, of which the header's is a view, is given back.
      stream.put(pieces, counters, Buffer.from(header.digest), cost);
      frame.release?.();
      if (found.digests.length > 0 && this.#link.duplex)
        await this.#link.control(FRAME.RESOLVED, encodeNumber(header.first + header.count));
    });
    this.#decoded = decoded;
    this.#resolved = resolved;
    this.#freed[(this.#batches - 1) % sets] = resolved;
    resolved.catch((error) => this.fail(error));
    if (this.#link.duplex) return;
    await this.#freed[this.#batches % sets];
    await stream.drained();
  }

  /** CLOSE: the stream ends behind the batches that came before. */
  close(payload: Buffer): void {
    const { stream: id, length, digest, sha256 } = decodeControl(Close, payload);
    const stream = this.#streams.take(id);
    const end = () => {
      if (!this.#finder.missing.some) stream.end({ length, digest, sha256 });
    };
    void this.#resolved.then(end, () => {});
  }

  /** RESET: the source has given the stream up. */
  reset(id: number, code: ErrorCode, message: string): void {
    this.#streams.reset(id, code, message);
  }

  /** CONTENT: the answer to a WANT. */
  content(payload: Buffer): void {
    const { number, page } = decodeContent(payload);
    this.#finder.content(number, page);
  }

  /** DONE: no stream comes any more. Resolves when each has landed or failed; rejects where the session has. */
  async finish(): Promise<ReceivedStream[]> {
    this.#streams.close();
    if (!this.#link.duplex) await this.#resolved.catch(() => {});
    if (this.#finder.missing.some) this.fail(this.#finder.missing.error());
    const outcomes = await this.#streams.finish();
    if (outcomes.some(({ error }) => error)) this.#check();
    return outcomes;
  }

  /** What became of every stream; to be called when nothing more can arrive. */
  outcomes(): Promise<ReceivedStream[]> {
    return this.#streams.outcomes();
  }

  /** Ends every stream that has not landed, and the link once the source has been told. */
  fail(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    this.#finder.fail(error);
    this.#streams.fail(error);
    void this.#link.abort(error);
  }

  /** Gives back what the direction holds. */
  async dispose(): Promise<void> {
    await Promise.allSettled([this.#decoded, this.#resolved]);
    this.#decoder.close();
    this.#finder.close();
    this.#store.close();
  }

  /** Frames may still come after the session has failed. */
  #check(): void {
    if (this.#error) throw this.#error;
  }

  async #find(batch: DecodedBatch): Promise<FoundContents | undefined> {
    const { past } = this.#options.site;
    const { numbers, digests } = listKnown(batch, past);
    if (numbers.length === 0) return NOTHING_FOUND;
    return this.#finder.find(digests, numbers);
  }
}
