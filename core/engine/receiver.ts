import { SizedPool } from "../content/sized-pool.ts";
import { type ErrorCode, IntegrityError, ProtocolError, type ShrinkerError } from "../errors.ts";
import type { StreamSink, StreamTarget } from "../machines/machine.ts";
import { segmentFormats } from "../segment/registry.ts";
import { ContentFile } from "../store/content-file.ts";
import type { NumberSet } from "../store/number-set.ts";
import { decodeBatch } from "../wire/batch.ts";
import {
  Close,
  decodeContent,
  decodeControl,
  encodeControl,
  encodeCredit,
  encodeNumber,
  Landed,
  Open,
  Reset,
} from "../wire/control.ts";
import type { Frame } from "../wire/frame.ts";
import { FRAME, MAX_STREAMS, RETURN_STREAMS } from "../wire/numbers.ts";
import { BatchDecoder, DecodeBuffers, type DecodedBatch } from "./batch-decoder.ts";
import { batchCost, checkBounds } from "./bounds.ts";
import { CommitGate } from "./commit-gate.ts";
import { addCounters, noCounters } from "./counters.ts";
import { ContentFinder, type FoundContents, NOTHING_FOUND } from "./finder.ts";
import { InStream, openedInfo } from "./in-stream.ts";
import type { ContentKeeper } from "./keeper.ts";
import type { Link } from "./link.ts";
import { listKnown } from "./list-known.ts";
import { PIECE_BYTES } from "./pieces.ts";
import { Resolver } from "./resolver.ts";
import type { DestinationSite } from "./site.ts";
import { asShrinkerError, heard, told } from "./told.ts";

/**
 * Bytes that may wait for the sinks of all streams together, and for one: what is on its way counts, so a third of all for the first
 * stream lets it fill 1 Gbit/s with a round trip of 100 ms, and as much again in buffers.
 */
const SESSION_WINDOW = 64 << 20;
const STREAM_WINDOW = 24 << 20;
const MIN_WINDOW = 1 << 20;
/** Sets of decoding buffers: one batch is decoded while another is resolved. */
const DECODING = 3;
/** A recording comes as fast as it is taken, and what it leaves out has its way from the disk over two threads. */
const DECODING_RECORDED = 8;
/** Bytes of idle buffers. */
const KEPT_PIECES = 24 << 20;
/** Streams that have failed, of which batches may still be on the way; older ones are forgotten. */
const MAX_FAILED = 2048;
/** Answers that wait for a peer which doesn't read. */
const MAX_UNTOLD = 1024;

export interface ReceiverOptions {
  readonly windowLog: number;
  /** How many of the last contents a batch may refer to, as negotiated. */
  readonly logLimit: number;
  /** A folder on a disk for the contents that arrive. */
  readonly spoolDir: string;
  readonly target: StreamTarget;
  /** Show streams under their names only when all are right. */
  readonly allOrNothing: boolean;
  /** What is here from before the session. */
  readonly site: DestinationSite;
  readonly keepers: readonly ContentKeeper[];
  /** Of a recording that was looked through: the contents that batches after their own refer to. Undefined where any may be. */
  readonly referred?: NumberSet | undefined;
  /** Of a recording, the index that says what it leaves out. */
  readonly index: Uint8Array | undefined;
  /** Of a recording, whether a signature is to come at its end. */
  readonly signed: boolean;
  /** Streams are numbered from here on; from 1 unless it is said otherwise. */
  readonly firstStream?: number;
  /** Whether a stream may be one direction of a connection. */
  readonly connections: boolean;
}

/** What became of a stream. */
export interface ReceivedStream {
  readonly stream: InStream;
  /** Undefined where it has landed. */
  readonly error: ShrinkerError | undefined;
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
  /** Streams that batches may be of; those that have failed swallow them. */
  readonly #streams = new Map<number, InStream>();
  /** Of these, those that have not failed. */
  readonly #open = new Set<number>();
  /** And those that have, the oldest first. */
  readonly #failed = new Set<number>();
  readonly #running = new Map<InStream, Promise<void>>();
  readonly #opened = new Set<{ stream: InStream; outcome: Promise<ReceivedStream> }>();
  readonly #gate = new CommitGate();
  readonly #buffers: readonly DecodeBuffers[];
  #decoded: Promise<unknown> = Promise.resolve();
  #resolved: Promise<unknown> = Promise.resolve();
  #freed: Promise<unknown>[] = [];
  #batches = 0;
  #nextContent = 0;
  #forgotten = 0;
  readonly #firstStream: number;
  #lastStream: number;
  #opening = true;
  #untold = 0;
  #summarized = false;
  #error: Error | undefined;

  constructor(link: Link, options: ReceiverOptions) {
    this.#link = link;
    this.#options = options;
    this.#firstStream = options.firstStream ?? 1;
    this.#lastStream = this.#firstStream - 1;
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
    return [...this.#opened].map(({ stream }) => stream);
  }

  /** OPEN: makes room for a stream. */
  open(payload: Buffer): void {
    this.#check();
    const opened = decodeControl(Open, payload);
    const { stream: id, format } = opened;
    const last = this.#lastStream;
    if (id <= last || id >= this.#firstStream + RETURN_STREAMS - 1 || !this.#opening)
      throw new ProtocolError(`The peer opens stream ${id} after ${this.#opening ? `stream ${last}` : "its last one"}`);
    this.#lastStream = id;
    if (!segmentFormats.has(format))
      throw new ProtocolError(`The peer sends a stream of the unknown format ${JSON.stringify(format)}`);
    if (!this.#options.connections && (opened.connection ?? opened.service) !== undefined)
      throw new ProtocolError("The peer opens a connection, and none was offered");
    if (this.#open.size >= MAX_STREAMS)
      throw new ProtocolError(`The peer opens more than ${MAX_STREAMS} streams at once`);
    const grant = (total: number) => this.#link.credit(id, encodeCredit(id, total));
    const stream = new InStream(id, openedInfo(opened), grant);
    this.#streams.set(id, stream);
    this.#open.add(id);
    const entry = { stream, outcome: this.#follow(stream) };
    this.#opened.add(entry);
    // Connections come and go for as long as a session lasts; nobody asks for their outcome at its end.
    if (stream.info.connection !== undefined) void entry.outcome.then(() => this.#opened.delete(entry));
  }

  /** SUMMARIZE: what is held here. */
  summarize(bits: 8 | 16): Promise<Uint8Array> {
    this.#check();
    if (this.#summarized || this.#lastStream >= this.#firstStream || !this.#options.site.info)
      throw new ProtocolError("The peer asks for a summary where none is due");
    this.#summarized = true;
    return this.#options.site.summary(bits);
  }

  /** BATCH. Resolves at once where the sender knows credit, else when there is room for another. */
  async batch(frame: Frame): Promise<void> {
    this.#check();
    const { header, columns } = decodeBatch(frame.payload);
    const stream = this.#streams.get(header.stream);
    if (!stream) throw new ProtocolError(`A batch is of stream ${header.stream}, which is not open`);
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
    const stream = this.#take(id);
    const end = () => {
      if (!this.#finder.missing.some) stream.end({ length, digest, sha256 });
    };
    void this.#resolved.then(end, () => {});
  }

  /** RESET: the source has given the stream up. */
  reset(id: number, code: ErrorCode, message: string): void {
    this.#streams.get(id)?.fail(heard(code, message, "The other end gave it up: "));
    this.#open.delete(id);
  }

  /** CONTENT: the answer to a WANT. */
  content(payload: Buffer): void {
    const { number, page } = decodeContent(payload);
    this.#finder.content(number, page);
  }

  /** DONE: no stream comes any more. Resolves when each has landed or failed; rejects where the session has. */
  async finish(): Promise<ReceivedStream[]> {
    this.#opening = false;
    if (!this.#link.duplex) await this.#resolved.catch(() => {});
    if (this.#finder.missing.some) this.fail(this.#finder.missing.error());
    for (const stream of this.#streams.values())
      stream.fail(new IntegrityError(`"${stream.info.name}" was never ended`));
    const kept = this.streams.filter(({ info }) => info.connection === undefined);
    if (this.#options.allOrNothing) await this.#gate.settle(kept.map(({ written }) => written));
    else this.#gate.open();
    const outcomes = await this.outcomes();
    if (outcomes.some(({ error }) => error)) this.#check();
    return outcomes;
  }

  /** What became of every stream; to be called when nothing more can arrive. */
  outcomes(): Promise<ReceivedStream[]> {
    return Promise.all([...this.#opened].map(({ outcome }) => outcome));
  }

  /** Ends every stream that has not landed, and the link once the source has been told. */
  fail(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    this.#finder.fail(error);
    this.#gate.refuse(error);
    for (const { stream } of this.#opened) stream.fail(error);
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

  #window(): number {
    let taken = 0;
    for (const stream of this.#running.keys()) taken += stream.window;
    return Math.max(MIN_WINDOW, Math.min(STREAM_WINDOW, Math.floor((SESSION_WINDOW - taken) / 3)));
  }

  #take(id: number): InStream {
    const stream = this.#streams.get(id);
    if (!stream) throw new ProtocolError(`The peer closes stream ${id}, which is not open`);
    this.#streams.delete(id);
    this.#open.delete(id);
    this.#failed.delete(id);
    return stream;
  }

  async #find(batch: DecodedBatch): Promise<FoundContents | undefined> {
    const { past } = this.#options.site;
    const { numbers, digests } = listKnown(batch, past);
    if (numbers.length === 0) return NOTHING_FOUND;
    return this.#finder.find(digests, numbers);
  }

  /** Runs a stream, as soon as few enough others are being written. */
  async #run(stream: InStream): Promise<void> {
    const failed = stream.written.then(
      () => {},
      () => {},
    );
    while (this.#running.size >= MAX_STREAMS && !stream.error) await Promise.race([failed, ...this.#running.values()]);
    const running = stream.run(this.#options.target, this.#window());
    this.#running.set(stream, running);
    await running;
    this.#running.delete(stream);
  }

  /** Waits for a stream to be written, shows it under its name, and tells the source. */
  async #follow(stream: InStream): Promise<ReceivedStream> {
    const running = this.#run(stream);
    let sink: StreamSink | undefined;
    try {
      sink = await stream.written;
      // Of a recording that leaves out what isn't here, or is not signed as it says, nothing is shown, also not what is whole.
      const { allOrNothing, index, signed } = this.#options;
      const gated = (allOrNothing || index || signed) && stream.info.connection === undefined;
      if (gated) await this.#gate.opened;
      if (this.#error) throw this.#error;
      await sink.commit();
      await this.#tell(FRAME.LANDED, encodeControl(Landed, { stream: stream.id }));
      return { stream, error: undefined };
    } catch (error) {
      this.#retire(stream.id);
      await running;
      await sink?.abort();
      const failure = asShrinkerError(error);
      stream.fail(failure);
      await this.#tell(FRAME.RESET, encodeControl(Reset, { stream: stream.id, ...told(failure) }));
      return { stream, error: failure };
    }
  }

  /** A stream has failed: what is on the way of it is read, for as long as that may be. */
  #retire(id: number): void {
    this.#open.delete(id);
    if (!this.#streams.has(id)) return;
    this.#failed.add(id);
    if (this.#failed.size <= MAX_FAILED) return;
    for (const oldest of this.#failed) {
      this.#failed.delete(oldest);
      this.#streams.delete(oldest);
      return;
    }
  }

  async #tell(type: number, payload: Buffer): Promise<void> {
    if (!this.#link.duplex || this.#error) return;
    if (this.#untold >= MAX_UNTOLD)
      return this.fail(new ProtocolError(`The peer opens streams and does not read the ${MAX_UNTOLD} answers`));
    this.#untold++;
    await this.#link.control(type, payload).catch(() => {});
    this.#untold--;
  }
}
