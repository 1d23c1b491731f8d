import { type ErrorCode, IntegrityError, ProtocolError, type ShrinkerError } from "../errors.ts";
import type { StreamSink, StreamTarget } from "../machines/machine.ts";
import { segmentFormats } from "../segment/registry.ts";
import { decodeControl, encodeControl, encodeCredit, Landed, Open, Reset } from "../wire/control.ts";
import { FRAME, MAX_FILES, MAX_STREAMS, RETURN_STREAMS } from "../wire/numbers.ts";
import { CommitGate } from "./commit-gate.ts";
import { InStream, openedInfo } from "./in-stream.ts";
import type { Link } from "./link.ts";
import { asShrinkerError, heard, told } from "./told.ts";

/**
 * Bytes that may wait for the sinks of all streams together, and for one at least: what is on its way counts, so a third of all for
 * the first stream lets it fill 1 Gbit/s with a round trip of 100 ms, and as much again in buffers.
 */
const SESSION_WINDOW = 64 << 20;
const MIN_WINDOW = 1 << 20;
/** Streams that have failed, of which batches may still be on the way; older ones are forgotten. */
const MAX_FAILED = 2048;
/**
 * Connections that have not ended, also those of which nothing more comes: their service may be slow, or the peer may not read what
 * it is told of them.
 */
const MAX_CONNECTIONS = 1024;

export interface ReceivedStreamsOptions {
  readonly target: StreamTarget;
  /** Show streams under their names only when all are right. */
  readonly allOrNothing: boolean;
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

/** The streams that a peer has opened: who may send what, where it goes, and what became of it. */
export class ReceivedStreams {
  readonly #link: Link;
  readonly #options: ReceivedStreamsOptions;
  /** Streams that batches may be of; those that have failed swallow them. */
  readonly #streams = new Map<number, InStream>();
  /** Of these, those that have not failed. */
  readonly #open = new Set<number>();
  /** And those that have, the oldest first. */
  readonly #failed = new Set<number>();
  readonly #running = new Set<InStream>();
  /** Those that wait until fewer are running, in their order. */
  readonly #waiting = new Set<() => void>();
  readonly #opened = new Set<{ stream: InStream; outcome: Promise<ReceivedStream> }>();
  readonly #gate = new CommitGate();
  readonly #first: number;
  #last: number;
  #files = 0;
  #opening = true;
  #error: Error | undefined;

  constructor(link: Link, options: ReceivedStreamsOptions) {
    this.#link = link;
    this.#options = options;
    this.#first = options.firstStream ?? 1;
    this.#last = this.#first - 1;
  }

  /** Every stream that was opened, in that order. */
  get all(): readonly InStream[] {
    return [...this.#opened].map(({ stream }) => stream);
  }

  /** Whether any was opened. */
  get some(): boolean {
    return this.#last >= this.#first;
  }

  /** OPEN: makes room for a stream. Throws a `ProtocolError` where it may not come. */
  open(payload: Buffer): void {
    const opened = decodeControl(Open, payload);
    const { stream: id, format } = opened;
    const last = this.#last;
    if (id <= last || id >= this.#first + RETURN_STREAMS - 1 || !this.#opening)
      throw new ProtocolError(`The peer opens stream ${id} after ${this.#opening ? `stream ${last}` : "its last one"}`);
    this.#last = id;
    if (!segmentFormats.has(format))
      throw new ProtocolError(`The peer sends a stream of the unknown format ${JSON.stringify(format)}`);
    if (!this.#options.connections && (opened.connection ?? opened.service) !== undefined)
      throw new ProtocolError("The peer opens a connection, and none was offered");
    if (this.#open.size >= MAX_STREAMS)
      throw new ProtocolError(`The peer opens more than ${MAX_STREAMS} streams at once`);
    if (opened.connection === undefined && ++this.#files > MAX_FILES)
      throw new ProtocolError(`The peer opens more than ${MAX_FILES} streams that are no connections`);
    if (this.#opened.size - this.#files >= MAX_CONNECTIONS)
      throw new ProtocolError(`The peer opens more than ${MAX_CONNECTIONS} connections that have not ended`);
    const grant = (total: number) => this.#link.credit(id, encodeCredit(id, total));
    const stream = new InStream(id, openedInfo(opened), grant);
    this.#streams.set(id, stream);
    this.#open.add(id);
    const entry = { stream, outcome: this.#follow(stream) };
    this.#opened.add(entry);
    // Connections come and go for as long as a session lasts; nobody asks for their outcome at its end.
    if (stream.info.connection !== undefined) void entry.outcome.then(() => this.#opened.delete(entry));
  }

  /** The stream that a batch is of. Throws a `ProtocolError` where there is none. */
  of(id: number): InStream {
    const stream = this.#streams.get(id);
    if (!stream) throw new ProtocolError(`A batch is of stream ${id}, which is not open`);
    return stream;
  }

  /** A stream of which nothing more comes. Throws a `ProtocolError` where there is none. */
  take(id: number): InStream {
    const stream = this.#streams.get(id);
    if (!stream) throw new ProtocolError(`The peer closes stream ${id}, which is not open`);
    this.#streams.delete(id);
    this.#open.delete(id);
    this.#failed.delete(id);
    return stream;
  }

  /** RESET: the source has given the stream up. */
  reset(id: number, code: ErrorCode, message: string): void {
    this.#streams.get(id)?.fail(heard(code, message, "The other end gave it up: "));
    this.#open.delete(id);
  }

  /** No stream comes any more. */
  close(): void {
    this.#opening = false;
  }

  /** Everything has come. Resolves when each stream has landed or failed. */
  async finish(): Promise<ReceivedStream[]> {
    for (const stream of this.#streams.values())
      stream.fail(new IntegrityError(`"${stream.info.name}" was never ended`));
    const kept = this.all.filter(({ info }) => info.connection === undefined);
    if (this.#options.allOrNothing) await this.#gate.settle(kept.map(({ written }) => written));
    else this.#gate.open();
    return this.outcomes();
  }

  /** What became of every stream; to be called when nothing more can arrive. */
  outcomes(): Promise<ReceivedStream[]> {
    return Promise.all([...this.#opened].map(({ outcome }) => outcome));
  }

  /** Ends every stream that has not landed. */
  fail(error: Error): void {
    this.#error ??= error;
    this.#gate.refuse(error);
    for (const { stream } of this.#opened) stream.fail(error);
  }

  #window(): number {
    let taken = 0;
    for (const stream of this.#running) taken += stream.window;
    return Math.max(MIN_WINDOW, Math.floor((SESSION_WINDOW - taken) / 3));
  }

  /** Runs a stream, as soon as few enough others are being written. */
  async #run(stream: InStream): Promise<void> {
    while (this.#running.size >= MAX_STREAMS && !stream.error) await this.#turn(stream);
    this.#running.add(stream);
    await stream.run(this.#options.target, this.#window());
    this.#running.delete(stream);
    const [first] = this.#waiting;
    if (!first) return;
    // The next one that ends has another one to wake.
    this.#waiting.delete(first);
    first();
  }

  /** Resolves when another one has ended, or this one has failed. */
  async #turn(stream: InStream): Promise<void> {
    const turn = Promise.withResolvers<void>();
    this.#waiting.add(turn.resolve);
    stream.written.catch(turn.resolve);
    await turn.promise;
    this.#waiting.delete(turn.resolve);
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

  /** Never rejects. What waits for a peer that doesn't read is as much as there may be streams. */
  async #tell(type: number, payload: Buffer): Promise<void> {
    if (this.#link.duplex && !this.#error) await this.#link.control(type, payload).catch(() => {});
  }
}
