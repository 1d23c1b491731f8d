import { CancelledError, LinkError, ShrinkerError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import { type Frame, FrameReader, frameHeader, preface } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { Flow } from "./flow.ts";

export interface LinkTimes {
  /** Milliseconds without a frame to send after which a sign of life is sent. */
  readonly ping: number;
  /** Milliseconds without a byte from the peer after which the link is dead. */
  readonly dead: number;
}

export const LINK_TIMES: LinkTimes = { ping: 2000, dead: 6000 };

/**
 * Frames over one connection. Control frames overtake batches; acknowledgements and credits are not queued but kept as
 * their latest value, so that a peer that does not read costs no memory here. Only `write` and `frames` wait.
 */
export class Link {
  readonly connection: Connection;
  readonly flow = new Flow();
  readonly #reader: FrameReader;
  readonly #times: LinkTimes;
  readonly #control: Outgoing[] = [];
  readonly #bulk: Outgoing[] = [];
  readonly #credits = new Map<number, Buffer>();
  #acknowledge = -1;
  #sequence = 0;
  #writing = false;
  #timer: ReturnType<typeof setInterval> | undefined;
  #heard = performance.now();
  #spoke = performance.now();
  #error: Error | undefined;

  constructor(connection: Connection, times: LinkTimes = LINK_TIMES) {
    this.connection = connection;
    this.#times = times;
    this.#reader = new FrameReader(this.#listen(connection.input), connection.peer);
  }

  get duplex(): boolean {
    return this.connection.duplex;
  }

  /** Sends what opens a direction. To be called once, before any frame. */
  async open(): Promise<void> {
    await this.connection.write([preface()]);
  }

  /** Reads the peer's opening. */
  async opened(): Promise<void> {
    await this.#reader.preface();
  }

  /** Begins to give signs of life, and to watch for the peer's. */
  watch(): void {
    if (!this.duplex) return;
    this.#heard = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      if (now - this.#heard > this.#times.dead) {
        const seconds = Math.round(this.#times.dead / 1000);
        this.fail(
          new LinkError(`${this.connection.peer} has been silent for ${seconds} s: check the link and run again`),
        );
      } else if (now - this.#spoke > this.#times.ping && !this.#writing) {
        void this.control(FRAME.PING).catch(() => {});
      }
    }, this.#times.ping / 4);
  }

  /** The next frame that is not the link's own business, or undefined where the peer has ended. */
  async next(): Promise<Frame | undefined> {
    for (;;) {
      const frame = await this.#reader.next();
      if (frame?.type === FRAME.ACK && frame.payload.length === 4) {
        this.flow.acknowledged(frame.payload.readUInt32LE(0));
      } else if (frame?.type !== FRAME.PING) return frame;
    }
  }

  /** Bytes read so far, for messages about a bundle. */
  get offset(): number {
    return this.#reader.offset;
  }

  /** Sends a control frame, ahead of the batches that wait. Resolves when it is written. */
  control(type: number, payload: Uint8Array = new Uint8Array(0)): Promise<void> {
    return this.#push(this.#control, type, [payload]);
  }

  /** Sends a frame in its turn, when the link has room for it. Resolves when it is written. */
  async bulk(type: number, parts: readonly Uint8Array[]): Promise<void> {
    if (this.duplex) await this.flow.ready();
    return this.#push(this.#bulk, type, parts);
  }

  /** Tells the peer that its frames up to `sequence` have arrived. */
  acknowledge(sequence: number): void {
    if (!this.duplex) return;
    this.#acknowledge = sequence;
    this.#kick();
  }

  /** Tells the peer how much of a stream it may have sent in all. */
  credit(stream: number, payload: Buffer): void {
    if (!this.duplex) return;
    this.#credits.set(stream, payload);
    this.#kick();
  }

  /** Ends this side's direction after everything that was sent. */
  async end(): Promise<void> {
    await this.connection.end();
  }

  /** Ends everything: pending writes and reads fail with `error`. Only the first call counts. */
  fail(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    this.#stop();
    void this.connection.destroy(error);
  }

  /** Ends both directions when all is said. */
  async close(): Promise<void> {
    const reason = this.#error ?? new CancelledError("the session is over");
    this.#error ??= reason;
    this.#stop();
    await this.connection.destroy(reason);
  }

  #stop(): void {
    clearInterval(this.#timer);
    for (const queue of [this.#control, this.#bulk]) {
      for (const { reject } of queue.splice(0)) reject(this.#error!);
    }
    this.flow.close();
  }

  #push(queue: Outgoing[], type: number, parts: readonly Uint8Array[]): Promise<void> {
    if (this.#error) return Promise.reject(this.#error);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    queue.push({ type, parts, resolve, reject });
    this.#kick();
    return promise;
  }

  /** A large frame on a slow link takes longer than `dead`: each of its bytes is a sign of life. */
  async *#listen(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of input) {
      this.#heard = performance.now();
      yield piece;
    }
  }

  #kick(): void {
    if (!this.#writing) void this.#write();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    try {
      for (let next = this.#take(); next && !this.#error; next = this.#take()) {
        const sequence = this.#sequence;
        this.#sequence = (sequence + 1) >>> 0;
        const header = frameHeader(next.type, sequence, next.parts);
        if (next.type === FRAME.BATCH) this.flow.sent(sequence, header.length + header.readUInt32LE(0));
        try {
          await this.connection.write([header, ...next.parts]);
          this.#spoke = performance.now();
          next.resolve();
        } catch (error) {
          next.reject(error);
          this.fail(error instanceof Error ? error : new ShrinkerError("bug", String(error)));
        }
      }
    } finally {
      this.#writing = false;
    }
  }

  #take(): Outgoing | undefined {
    if (this.#acknowledge >= 0) {
      const payload = Buffer.alloc(4);
      payload.writeUInt32LE(this.#acknowledge);
      this.#acknowledge = -1;
      return { type: FRAME.ACK, parts: [payload], ...IGNORED };
    }
    for (const [stream, payload] of this.#credits) {
      this.#credits.delete(stream);
      return { type: FRAME.CREDIT, parts: [payload], ...IGNORED };
    }
    return this.#control.shift() ?? this.#bulk.shift();
  }
}

interface Outgoing {
  readonly type: number;
  readonly parts: readonly Uint8Array[];
  resolve(): void;
  reject(error: unknown): void;
}

const IGNORED = { resolve: () => {}, reject: () => {} };
