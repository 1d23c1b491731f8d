import type { ShrinkerError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import { frameHeader } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { KeptFrames } from "./kept-frames.ts";
import { asShrinkerError } from "./told.ts";

/** Where this much is kept for a peer that doesn't acknowledge, nothing more is written but what it may be waiting for. */
const MAX_KEPT = 64 << 20;
/** Where this much is kept, nothing is. */
const MAX_KEPT_URGENT = 72 << 20;

interface Outgoing {
  readonly type: number;
  readonly parts: readonly Uint8Array[];
  resolve(): void;
  reject(error: Error): void;
}

/** What is handed to the connection in one write. */
interface Written {
  readonly buffers: readonly Uint8Array[];
  /** Who waits for it; nobody where it is written again. */
  readonly from?: Outgoing;
}

const IGNORED = { resolve: () => {}, reject: () => {} };

export interface OutboxEvents {
  /** A frame is about to be written, for the first time or again. */
  sending(type: number, sequence: number, bytes: number): void;
  /** So many bytes were written. */
  sent(bytes: number): void;
  /** The connection takes nothing any more. What waits stays here until `refuse`, or for another connection. */
  broken(error: ShrinkerError): void;
}

/**
 * What one end has to say, in the order in which it is said: acknowledgements and credits first, of which only the latest
 * value is kept, so that a peer that does not read costs no memory here; then control frames; then batches. On a link that
 * can be resumed, what was written is kept until the peer has it, and written again to another connection.
 */
export class Outbox {
  readonly #events: OutboxEvents;
  readonly #control: Outgoing[] = [];
  readonly #bulk: Outgoing[] = [];
  readonly #credits = new Map<number, Buffer>();
  #connection: Connection | undefined;
  #kept: KeptFrames | undefined;
  /** What a new connection begins with. */
  #opening: readonly Uint8Array[] = [];
  #acknowledge = -1;
  #sequence = 0;
  #writing: Written | undefined;
  #end: PromiseWithResolvers<void> | undefined;
  /** The connection whose direction is ended: it takes nothing more. */
  #ended: Connection | undefined;
  #refusal: Error | undefined;

  constructor(connection: Connection, events: OutboxEvents) {
    this.#connection = connection;
    this.#events = events;
  }

  /** Whether a frame is being written. */
  get busy(): boolean {
    return this.#writing !== undefined;
  }

  /** Whether there is no connection to write to. */
  get broken(): boolean {
    return this.#connection === undefined;
  }

  /** Whether the peer has everything that matters to it. */
  get settled(): boolean {
    return this.#kept?.settled === true && this.#control.length + this.#bulk.length === 0;
  }

  /** From now on frames are kept until the peer acknowledges them. */
  keep(): void {
    this.#kept = new KeptFrames(this.#sequence);
  }

  /** The peer has every frame up to `sequence`. Returns whether that is news; throws a `ProtocolError` where it can't be. */
  acknowledged(sequence: number): boolean {
    const news = this.#kept?.acknowledged(sequence) === true;
    if (news) this.#kick();
    return news;
  }

  /** Resolves when the frame is written, or kept to be; rejects with the reason of `refuse`. */
  control(type: number, payload: Uint8Array): Promise<void> {
    return this.#push(this.#control, type, [payload]);
  }

  /** As `control`, behind everything else. */
  bulk(type: number, parts: readonly Uint8Array[]): Promise<void> {
    return this.#push(this.#bulk, type, parts);
  }

  acknowledge(sequence: number): void {
    if (this.#refusal) return;
    this.#acknowledge = sequence;
    this.#kick();
  }

  credit(stream: number, payload: Buffer): void {
    if (this.#refusal) return;
    this.#credits.set(stream, payload);
    this.#kick();
  }

  /** Ends the direction after all that waits. Resolves when that is done; rejects where it can't be. */
  end(): Promise<void> {
    this.#end ??= Promise.withResolvers<void>();
    this.#end.promise.catch(() => {});
    this.#kick();
    return this.#end.promise;
  }

  /** The connection is lost. What was being written is kept. */
  detach(): void {
    this.#connection = undefined;
    this.#writing?.from?.resolve();
    this.#writing = undefined;
  }

  /** Whether the frames from `received` on can be written again. */
  reaches(received: number): boolean {
    return this.#kept?.reaches(received) === true;
  }

  /**
   * Goes on over another connection, with the frames from `received` on; where those are not kept, `last` is all that can
   * be said. Returns whether the peer has received more than it had acknowledged.
   * @param opening written before anything else
   */
  attach(connection: Connection, received: number, opening: readonly Uint8Array[]): boolean {
    this.detach();
    this.#connection = connection;
    this.#opening = opening;
    if (!this.reaches(received)) {
      this.#kept = undefined;
      this.#sequence = received;
      return false;
    }
    const news = this.#kept?.rewind(received) === true;
    this.#kick();
    return news;
  }

  /** Takes nothing more, and drops what waits. */
  refuse(reason: Error): void {
    this.#refusal ??= reason;
    this.#acknowledge = -1;
    this.#credits.clear();
    for (const queue of [this.#control, this.#bulk]) {
      for (const { reject } of queue.splice(0)) reject(reason);
    }
    // What is still to be written again never will be: the last word takes its number.
    if (this.#kept) this.#sequence = this.#kept.due;
    this.#kept = undefined;
    this.#end?.reject(reason);
    this.#end = undefined;
  }

  /** Says one last thing, ahead of all that waits and instead of it. */
  async last(type: number, payload: Uint8Array, reason: Error): Promise<void> {
    this.refuse(reason);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#control.push({ type, parts: [payload], resolve, reject });
    this.#kick();
    await promise;
  }

  #push(queue: Outgoing[], type: number, parts: readonly Uint8Array[]): Promise<void> {
    if (this.#refusal) return Promise.reject(this.#refusal);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    queue.push({ type, parts, resolve, reject });
    this.#kick();
    return promise;
  }

  #kick(): void {
    if (!this.#writing && this.#connection) void this.#write(this.#connection);
  }

  /** Writes what there is. Whatever comes of a connection that was left behind is no business of the next one. */
  async #write(connection: Connection): Promise<void> {
    for (let next = this.#next(); next; next = this.#next()) {
      this.#writing = next;
      try {
        await connection.write(next.buffers);
      } catch (error) {
        if (this.#connection === connection) this.#break(next, error);
        return;
      }
      if (this.#connection !== connection) return;
      this.#events.sent(next.buffers.reduce((sum, { length }) => sum + length, 0));
      next.from?.resolve();
    }
    this.#writing = undefined;
    if (this.#end) await this.#finish(connection, this.#end);
  }

  async #finish(connection: Connection, end: PromiseWithResolvers<void>): Promise<void> {
    if (this.#ended === connection) return;
    this.#ended = connection;
    try {
      await connection.end();
      end.resolve();
    } catch (error) {
      if (!this.#kept) end.reject(error);
      else if (this.#connection === connection) this.#break(undefined, error);
    }
  }

  #break(unsent: Written | undefined, error: unknown): void {
    this.#writing = undefined;
    this.#connection = undefined;
    const { from } = unsent ?? {};
    if (this.#refusal) from?.reject(this.#refusal);
    else if (this.#kept) from?.resolve();
    else if (from) this.#control.unshift(from);
    this.#events.broken(asShrinkerError(error));
  }

  /** What is written next: frames of before to a new connection, then new ones. */
  #next(): Written | undefined {
    if (this.#ended && this.#ended === this.#connection) return undefined;
    if (this.#opening.length > 0) {
      const buffers = this.#opening;
      this.#opening = [];
      return { buffers };
    }
    const again = this.#kept?.pending();
    if (again) {
      this.#events.sending(again.type, again.sequence, again.length);
      return { buffers: again.buffers };
    }
    const from = this.#take();
    return from && this.#number(from);
  }

  #number(from: Outgoing): Written {
    const { type, parts } = from;
    const sequence = this.#sequence;
    this.#sequence = (sequence + 1) >>> 0;
    const header = frameHeader(type, sequence, parts);
    this.#events.sending(type, sequence, header.length + header.readUInt32LE(0));
    const buffers = [header, ...parts];
    if (!this.#kept) return { buffers, from };
    // Once it is written, its parts are their owner's again.
    this.#kept.push(type, sequence, buffers);
    return { buffers: this.#kept.pending()!.buffers, from };
  }

  #take(): Outgoing | undefined {
    const kept = this.#kept?.bytes ?? 0;
    if (kept >= MAX_KEPT_URGENT) return undefined;
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
    return kept >= MAX_KEPT ? undefined : (this.#control.shift() ?? this.#bulk.shift());
  }
}
