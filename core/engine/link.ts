import { CancelledError, LinkError, ProtocolError, type ShrinkerError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import { Abort, decodeControl, encodeControl, Resumed } from "../wire/control.ts";
import { type Frame, frameHeader, preface } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { Channel } from "./channel.ts";
import { Flow } from "./flow.ts";
import { LastWords } from "./last-words.ts";
import { LINK_TIMES, type LinkTimes, RESUME_MS } from "./link-times.ts";
import { Outages } from "./outages.ts";
import { Outbox } from "./outbox.ts";
import { Receipts } from "./receipts.ts";
import { BACK_OFF, type Outage, type Redial, reconnect, type Ticket } from "./reconnect.ts";
import { abortOf, heard } from "./told.ts";

/** Told when the connection is lost, and when there is one again. `reason` says why it was lost, in one line. */
export type LinkListener = (state: "reconnecting" | "connected", reason: string) => void;

/** How a link goes on when its connection is lost. */
export interface Resumption {
  readonly ticket: Ticket;
  /** Dials the peer again; undefined where it is the peer who dials. */
  readonly redial?: Redial | undefined;
  readonly onLink?: LinkListener | undefined;
  /** Called once the link is over; with why, where the peer could not be told. */
  readonly over?: (untold: Error | undefined) => void;
}

const LOST = Symbol("the connection is lost");

/**
 * Frames, signs of life, and how it ends: over one connection, or over several, one after the other, where both ends have
 * agreed on that; who uses it then sees a pause. Only `control`, `bulk`, `end` and `next` wait.
 */
export class Link {
  readonly flow = new Flow();
  readonly #outbox: Outbox;
  readonly #times: LinkTimes;
  #channel: Channel;
  #opened = false;
  #ended = false;
  #timer: ReturnType<typeof setInterval> | undefined;
  #late: ReturnType<typeof setTimeout> | undefined;
  #spoke = performance.now();
  #pinging = false;
  /** Bytes of the connections before this one. */
  #wire = { in: 0, out: 0 };
  #resumption: Resumption | undefined;
  #outages: Outages;
  readonly #gone = new AbortController();
  readonly #receipts = new Receipts();
  readonly #lastWords = new LastWords();
  /** Why this side gives up, from when it begins to say so. */
  #reason: Error | undefined;
  #leaving: Promise<void> | undefined;
  readonly #drained = Promise.withResolvers<void>();
  #error: Error | undefined;

  constructor(connection: Connection, times: LinkTimes = LINK_TIMES) {
    this.#times = times;
    this.#outages = new Outages(times, false);
    this.#channel = new Channel(connection);
    this.#outbox = new Outbox(connection, {
      sending: (type, sequence, bytes) => {
        if (type === FRAME.BATCH) this.flow.sent(sequence, bytes);
      },
      sent: (bytes) => {
        this.#spoke = performance.now();
        this.#channel.bytesOut += bytes;
      },
      broken: (error) => this.#mute(error),
    });
  }

  /** The connection of now; the last one, while there is none. */
  get connection(): Connection {
    return this.#channel.connection;
  }

  get duplex(): boolean {
    return this.connection.duplex;
  }

  /** Bytes read so far, for messages about a bundle. */
  get offset(): number {
    return this.#channel.reader.offset;
  }

  /** SHA-256 of all bytes of a recording so far, but its SIGNATURE's; to be asked for once. */
  digest(): Buffer {
    return this.#channel.reader.digest();
  }

  /** Nobody will ask for the digest. */
  dropDigest(): void {
    this.#channel.reader.keepDigest(false);
  }

  /** Bytes that went each way, over all connections. */
  get wire(): { readonly in: number; readonly out: number } {
    const { bytesIn, bytesOut } = this.#channel;
    return { in: this.#wire.in + bytesIn, out: this.#wire.out + bytesOut };
  }

  /** Sends what opens a direction. To be called once, before any frame. */
  async open(): Promise<void> {
    const opening = preface();
    await this.connection.write([opening]);
    this.#channel.bytesOut += opening.length;
    this.#opened = true;
  }

  /** Reads the peer's opening, and what `read` reads then, for all of which the peer has a limited time. */
  async opened<T>(read: () => Promise<T>): Promise<T> {
    const { peer } = this.connection;
    const seconds = Math.ceil(this.#times.handshake / 1000);
    const late = new LinkError(`${peer} did not answer within ${seconds} s: is it a shrinker?`);
    const timer = this.duplex ? setTimeout(() => this.fail(late), this.#times.handshake) : undefined;
    try {
      await this.#channel.reader.preface();
      return await read();
    } finally {
      clearTimeout(timer);
    }
  }

  /** From now on the link outlives its connection. To be called between two frames, by both ends at the same ones. */
  outlive(resumption: Resumption): void {
    this.#resumption = resumption;
    this.#outages = new Outages(this.#times, resumption.redial !== undefined);
    if (this.#error) resumption.over?.(undefined);
    else this.#outbox.keep();
  }

  /** Begins to give signs of life, and to watch for the peer's. */
  watch(): void {
    if (!this.duplex || this.#error) return;
    this.#channel.heard = performance.now();
    this.#timer = setInterval(() => this.#tick(performance.now()), this.#times.ping / 4);
  }

  /** The next frame that is not the link's own business, or undefined where the peer has ended. Rejects with why the peer gave up. */
  async next(): Promise<Frame | undefined> {
    try {
      for (;;) {
        await this.#outages.waiting;
        const channel = this.#channel;
        const frame = await this.#read(channel);
        if (this.#reason) throw this.#reason;
        // What had come from a connection that was replaced meanwhile comes again.
        if (frame === LOST || channel !== this.#channel) continue;
        if (frame) this.#arrived(frame);
        if (frame?.type === FRAME.ACK && frame.payload.length === 4) {
          const sequence = frame.payload.readUInt32LE(0);
          this.flow.acknowledged(sequence);
          if (this.#outbox.acknowledged(sequence)) channel.useful = true;
        } else if (frame?.type === FRAME.ABORT) throw this.#givenUp(frame);
        else if (frame?.type !== FRAME.PING) return frame;
      }
    } catch (error) {
      throw this.#reason ?? error;
    }
  }

  /** Sends a control frame, ahead of the batches that wait. Resolves when it is written. */
  control(type: number, payload: Uint8Array = new Uint8Array(0)): Promise<void> {
    if (type === FRAME.DONE) this.#sayDone();
    return this.#outbox.control(type, payload);
  }

  /** Sends a frame in its turn, when the link has room for it. Resolves when it is written. */
  async bulk(type: number, parts: readonly Uint8Array[]): Promise<void> {
    if (this.duplex) await this.flow.ready();
    if (type === FRAME.DONE) this.#sayDone();
    return this.#outbox.bulk(type, parts);
  }

  /** Tells the peer that its frames up to `sequence` have arrived. */
  acknowledge(sequence: number): void {
    if (!this.duplex || (this.#resumption && !this.#receipts.some)) return;
    this.#receipts.told();
    this.#outbox.acknowledge(sequence);
  }

  /** Tells the peer how much of a stream it may have sent in all. */
  credit(stream: number, payload: Buffer): void {
    if (this.duplex) this.#outbox.credit(stream, payload);
  }

  /** Ends this side's direction after everything that was sent. */
  async end(): Promise<void> {
    this.#ended = true;
    try {
      await this.#outbox.end();
    } catch (error) {
      if (!this.#settled) throw error;
    }
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
    this.#stop(this.#error);
    void this.connection.destroy(this.#error);
  }

  /** Ends both directions when all is said. */
  async close(): Promise<void> {
    if (this.#leaving) return this.#leaving;
    this.fail(new CancelledError("the session is over"));
    await this.connection.destroy(this.#error);
  }

  /** Gives the connection away, and is over without a word. */
  release(): Channel {
    const released = new CancelledError("the connection belongs to another session");
    this.#leaving = Promise.resolve();
    this.#error = released;
    this.#stop(released);
    return this.#channel;
  }

  /**
   * Goes on over another connection, whose peer has proved that it is this link's. Throws where it can't.
   * @param take gives the connection
   * @param received the number of the first frame that the peer has not received
   */
  resume(take: () => Channel, received: number): void {
    if (!this.#resumes) throw this.#error ?? this.#reason ?? new LinkError("The session can't be resumed");
    // The peer may know before this side that the old one is dead.
    this.#lost(this.#channel, new LinkError(`${this.connection.peer} came back over another connection`));
    if (!this.#outages.waiting) throw new LinkError("The session is over");
    const payload = encodeControl(Resumed, { received: this.#receipts.due });
    if (!this.#attach(take, received, [Buffer.concat([frameHeader(FRAME.RESUMED, 0, [payload]), payload])])) {
      const error = impossible(received);
      this.fail(error);
      throw error;
    }
  }

  get #resumes(): boolean {
    return this.#resumption !== undefined && !this.#error && !this.#reason;
  }

  /** Nothing that matters can still come, or be said: a connection that is lost now need not be made again. */
  get #settled(): boolean {
    return this.#lastWords.settled(this.#outbox.settled);
  }

  /** The channel's next frame, undefined where the peer has ended, or LOST where it goes on over another. */
  async #read(channel: Channel): Promise<Frame | typeof LOST | undefined> {
    try {
      const frame = await channel.next();
      if (frame || !this.#resumes) return frame;
      this.#lost(channel, new LinkError(`${channel.connection.peer} closed the connection`));
    } catch (error) {
      const stale = channel !== this.#channel || this.#outages.waiting !== undefined;
      if (!this.#resumes || !(stale || error instanceof LinkError)) throw (this.#resumption && this.#error) ?? error;
      this.#lost(channel, error as Error);
    }
    return this.#outages.waiting || channel !== this.#channel ? LOST : undefined;
  }

  /** Counts a frame, and acknowledges when many have come. */
  #arrived(frame: Frame): void {
    const many = this.#receipts.arrived(frame);
    if (!this.#resumption) return;
    if (frame.type === FRAME.DONE) this.#lastWords.hear();
    if (this.#receipts.lasting) this.#channel.useful = true;
    if (many) this.acknowledge(frame.sequence);
  }

  /** Everything that came is acknowledged first, so that the peer knows from the DONE that nothing is missing. */
  #sayDone(): void {
    this.#lastWords.say();
    if (this.#resumption) this.acknowledge(this.#receipts.last);
  }

  #tick(now: number): void {
    const { ping, dead, resume = RESUME_MS } = this.#times;
    const channel = this.#channel;
    if (this.#outages.waiting) {
      const expired = this.#outages.expired(now, channel.connection.peer);
      if (expired) this.fail(expired);
      return;
    }
    // Silence says nothing of a peer that nobody listens to.
    if (!channel.reading) channel.heard = now;
    if (now - channel.heard > dead) {
      const { peer } = channel.connection;
      const silent = new LinkError(
        `${peer} has been silent for ${Math.round(dead / 1000)} s: check the link and run again`,
      );
      if (!this.#resumes) this.fail(silent);
      else if (!this.#settled) this.#lost(channel, silent);
      // The last word may be on its way to the peer for as long as another connection might be made.
      else if (now - channel.heard > resume) void channel.connection.destroy(silent);
    } else if (this.#resumption && this.#receipts.lasting && !this.#ended) {
      this.acknowledge(this.#receipts.last);
    } else if (now - this.#spoke > ping && !this.#outbox.busy && !this.#ended && !this.#pinging) {
      this.#pinging = true;
      const said = () => {
        this.#pinging = false;
      };
      void this.control(FRAME.PING).then(said, said);
    }
  }

  /** The connection is of no use any more: unless all is settled, another has to come. */
  #lost(channel: Channel, error: Error): void {
    if (channel !== this.#channel || this.#outages.waiting || !this.#resumes) return;
    clearTimeout(this.#late);
    if (this.#settled) {
      this.#outbox.refuse(error);
      return;
    }
    this.#outbox.detach();
    this.flow.pause();
    void channel.connection.destroy(error);
    const outage = this.#outages.begin(error, channel.since, channel.useful);
    const { redial, onLink, ticket } = this.#resumption!;
    onLink?.("reconnecting", error.message);
    if (redial) void this.#reconnect(redial, ticket, outage);
  }

  async #reconnect(redial: Redial, ticket: Ticket, outage: Outage): Promise<void> {
    const { handshake: attemptMs, backOff = BACK_OFF } = this.#times;
    const options = {
      ticket,
      redial,
      outage,
      received: this.#receipts.due,
      signal: this.#gone.signal,
      attemptMs,
      backOff,
    };
    try {
      const { channel, received } = await reconnect(options);
      if (this.#error) void channel.connection.destroy(this.#error);
      else if (!this.#attach(() => channel, received, [])) void this.abort(impossible(received));
    } catch (error) {
      this.fail(error as Error);
    }
  }

  /** Goes on over a connection. False where the peer wants frames that are gone or were never there; it can be told so. */
  #attach(take: () => Channel, received: number, opening: readonly Uint8Array[]): boolean {
    const possible = this.#outbox.reaches(received);
    if (!possible && opening.length > 0) return false;
    const channel = take();
    this.#wire = this.wire;
    this.#channel = channel;
    channel.reader.expect(this.#receipts.due);
    const now = performance.now();
    channel.heard = now;
    this.#spoke = now;
    this.#receipts.told();
    this.#outages.end();
    this.flow.resume();
    if (this.#outbox.attach(channel.connection, received, opening)) channel.useful = true;
    if (possible) this.#resumption?.onLink?.("connected", "");
    return possible;
  }

  #stop(error: Error): void {
    clearInterval(this.#timer);
    clearTimeout(this.#late);
    this.#outbox.refuse(error);
    this.#drained.resolve();
    this.flow.close();
    this.#outages.fail(error);
    this.#gone.abort(error);
    this.#resumption?.over?.(this.#outages.waiting && error);
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
    await this.#outbox.last(FRAME.ABORT, abortOf(error), error);
    await this.end();
    // What was still on its way here, whole frames or not.
    for await (const _ of this.#channel.input);
  }

  /** Nothing can be sent any more. The peer may have said why before it left, so it is heard for a while. */
  #mute(error: Error): void {
    const channel = this.#channel;
    const give = () => (this.#resumes ? this.#lost(channel, error) : this.fail(error));
    if (!this.duplex || this.#reason) this.fail(error);
    else this.#late = setTimeout(give, this.#times.farewell);
  }

  #givenUp({ payload }: Frame): ShrinkerError {
    const { code, message } = decodeControl(Abort, payload);
    const error = heard(code, message, "The other end gave up: ");
    this.fail(error);
    return error;
  }
}

function impossible(received: number): ProtocolError {
  return new ProtocolError(`The peer wants to go on from frame ${received}, which is not kept for it`);
}
