import { CancelledError, IntegrityError, LinkError, type ShrinkerError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import { Abort, decodeControl, encodeControl } from "../wire/control.ts";
import { type Frame, FrameReader, preface } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { Flow } from "./flow.ts";
import { Outbox } from "./outbox.ts";
import { heard, told } from "./told.ts";

export interface LinkTimes {
  /** Milliseconds that a peer gets to say its first word. */
  readonly handshake: number;
  /** Milliseconds without a frame to send after which a sign of life is sent. */
  readonly ping: number;
  /** Milliseconds without a byte from the peer after which the link is dead. */
  readonly dead: number;
  /** Milliseconds that a peer gets to hear, or to say, why the session ends. */
  readonly farewell: number;
}

export const LINK_TIMES: LinkTimes = { handshake: 15_000, ping: 2000, dead: 6000, farewell: 1000 };

/** Frames over one connection, signs of life, and how it ends. Only `control`, `bulk` and `next` wait. */
export class Link {
  readonly connection: Connection;
  readonly flow = new Flow();
  readonly #outbox: Outbox;
  readonly #input: AsyncGenerator<Uint8Array>;
  readonly #reader: FrameReader;
  readonly #times: LinkTimes;
  #opened = false;
  #ended = false;
  #inputEnded = false;
  #timer: ReturnType<typeof setInterval> | undefined;
  #late: ReturnType<typeof setTimeout> | undefined;
  #heard = performance.now();
  #spoke = performance.now();
  /** Why this side gives up, from when it begins to say so. */
  #reason: Error | undefined;
  #leaving: Promise<void> | undefined;
  readonly #drained = Promise.withResolvers<void>();
  #error: Error | undefined;

  constructor(connection: Connection, times: LinkTimes = LINK_TIMES) {
    this.connection = connection;
    this.#times = times;
    this.#input = this.#listen(connection.input);
    this.#reader = new FrameReader(this.#input, connection.peer, !connection.duplex);
    this.#outbox = new Outbox(connection, {
      sending: (type, sequence, bytes) => {
        if (type === FRAME.BATCH) this.flow.sent(sequence, bytes);
      },
      sent: () => {
        this.#spoke = performance.now();
      },
      broken: (error) => this.#mute(error),
    });
  }

  get duplex(): boolean {
    return this.connection.duplex;
  }

  /** Bytes read so far, for messages about a bundle. */
  get offset(): number {
    return this.#reader.offset;
  }

  /** Sends what opens a direction. To be called once, before any frame. */
  async open(): Promise<void> {
    await this.connection.write([preface()]);
    this.#opened = true;
  }

  /** Reads the peer's opening, and what `read` reads then, for all of which the peer has a limited time. */
  async opened<T>(read: () => Promise<T>): Promise<T> {
    const { peer } = this.connection;
    const seconds = Math.ceil(this.#times.handshake / 1000);
    const late = new LinkError(`${peer} did not answer within ${seconds} s: is it a shrinker?`);
    const timer = this.duplex ? setTimeout(() => this.fail(late), this.#times.handshake) : undefined;
    try {
      await this.#reader.preface();
      return await read();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Begins to give signs of life, and to watch for the peer's. */
  watch(): void {
    if (!this.duplex || this.#error) return;
    const { ping, dead } = this.#times;
    this.#heard = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      if (now - this.#heard > dead) {
        const seconds = Math.round(dead / 1000);
        this.fail(
          new LinkError(`${this.connection.peer} has been silent for ${seconds} s: check the link and run again`),
        );
      } else if (now - this.#spoke > ping && !this.#outbox.busy && !this.#ended) {
        void this.control(FRAME.PING).catch(() => {});
      }
    }, ping / 4);
  }

  /** The next frame that is not the link's own business, or undefined where the peer has ended. Rejects with why the peer gave up. */
  async next(): Promise<Frame | undefined> {
    try {
      for (;;) {
        const frame = await this.#reader.next();
        if (this.#reason) throw this.#reason;
        if (frame?.type === FRAME.ACK && frame.payload.length === 4) {
          this.flow.acknowledged(frame.payload.readUInt32LE(0));
        } else if (frame?.type === FRAME.ABORT) throw this.#givenUp(frame);
        else if (frame?.type !== FRAME.PING) return frame;
      }
    } catch (error) {
      throw this.#reason ?? this.#explain(error);
    }
  }

  /** Sends a control frame, ahead of the batches that wait. Resolves when it is written. */
  control(type: number, payload: Uint8Array = new Uint8Array(0)): Promise<void> {
    return this.#outbox.control(type, payload);
  }

  /** Sends a frame in its turn, when the link has room for it. Resolves when it is written. */
  async bulk(type: number, parts: readonly Uint8Array[]): Promise<void> {
    if (this.duplex) await this.flow.ready();
    return this.#outbox.bulk(type, parts);
  }

  /** Tells the peer that its frames up to `sequence` have arrived. */
  acknowledge(sequence: number): void {
    if (this.duplex) this.#outbox.acknowledge(sequence);
  }

  /** Tells the peer how much of a stream it may have sent in all. */
  credit(stream: number, payload: Buffer): void {
    if (this.duplex) this.#outbox.credit(stream, payload);
  }

  /** Ends this side's direction after everything that was sent. */
  async end(): Promise<void> {
    this.#ended = true;
    await this.connection.end();
  }

  /** Tells the peer why this side gives up, if it still listens, and ends everything. Only the first call of this or `fail` counts. */
  abort(error: Error): Promise<void> {
    this.#leaving ??= this.#leave(error);
    return this.#leaving;
  }

  /** Ends everything at once: pending writes and reads fail with `error`. */
  fail(error: Error): void {
    if (this.#error) return;
    this.#error = this.#reason ?? error;
    this.#stop();
    void this.connection.destroy(this.#error);
  }

  /** Ends both directions when all is said. */
  async close(): Promise<void> {
    if (this.#leaving) return this.#leaving;
    this.fail(new CancelledError("the session is over"));
    await this.connection.destroy(this.#error);
  }

  #stop(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#late);
    this.#outbox.refuse(this.#error!);
    this.#drained.resolve();
    this.flow.close();
  }

  async #leave(error: Error): Promise<void> {
    if (!this.#error && this.duplex && this.#opened && !this.#ended && !this.#outbox.broken) {
      this.#reason = error;
      this.flow.close();
      this.#late = setTimeout(() => this.#drained.resolve(), this.#times.farewell);
      void this.#sayWhy(error)
        .catch(() => {})
        .then(this.#drained.resolve);
      await this.#drained.promise;
    }
    this.fail(error);
    await this.connection.destroy(this.#error);
  }

  /** The connection is dropped only once the peer has ended it: what it had not read by then would be lost. */
  async #sayWhy(error: Error): Promise<void> {
    await this.#outbox.last(FRAME.ABORT, encodeControl(Abort, told(error)), error);
    await this.end();
    // What was still on its way here, whole frames or not.
    for await (const _ of this.#input);
  }

  /** Nothing can be sent any more. The peer may have said why before it left, so it is heard for a while. */
  #mute(error: Error): void {
    if (!this.duplex || this.#reason) this.fail(error);
    else this.#late = setTimeout(() => this.fail(error), this.#times.farewell);
  }

  #givenUp({ payload }: Frame): ShrinkerError {
    const { code, message } = decodeControl(Abort, payload);
    const error = heard(code, message, "The other end gave up: ");
    this.fail(error);
    return error;
  }

  /** A connection that ends within a frame was cut; a recording that does was cut short. */
  #explain(error: unknown): unknown {
    if (!this.duplex || !this.#inputEnded || !(error instanceof IntegrityError)) return error;
    return new LinkError(`${this.connection.peer} closed the connection in the middle of a frame: run again`);
  }

  /** A large frame on a slow link takes longer than `dead`: each of its bytes is a sign of life. */
  async *#listen(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of input) {
      this.#heard = performance.now();
      yield piece;
    }
    this.#inputEnded = true;
  }
}
