import type { Connection } from "../transport/transport.ts";
import { frameHeader } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { asShrinkerError } from "./told.ts";

interface Outgoing {
  readonly type: number;
  readonly parts: readonly Uint8Array[];
  resolve(): void;
  reject(error: Error): void;
}

const IGNORED = { resolve: () => {}, reject: () => {} };

export interface OutboxEvents {
  /** A frame is about to be written. */
  sending(type: number, sequence: number, bytes: number): void;
  /** A frame was written. */
  sent(): void;
  /** The connection takes nothing any more. What waits stays here until `refuse`. */
  broken(error: Error): void;
}

/**
 * What one end has to say, in the order in which it is said: acknowledgements and credits first, of which only the latest
 * value is kept, so that a peer that does not read costs no memory here; then control frames; then batches.
 */
export class Outbox {
  readonly #connection: Connection;
  readonly #events: OutboxEvents;
  readonly #control: Outgoing[] = [];
  readonly #bulk: Outgoing[] = [];
  readonly #credits = new Map<number, Buffer>();
  #acknowledge = -1;
  #sequence = 0;
  #writing = false;
  #broken = false;
  #refusal: Error | undefined;

  constructor(connection: Connection, events: OutboxEvents) {
    this.#connection = connection;
    this.#events = events;
  }

  /** Whether a frame is being written. */
  get busy(): boolean {
    return this.#writing;
  }

  get broken(): boolean {
    return this.#broken;
  }

  /** Resolves when the frame is written; rejects with the reason of `refuse`. */
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

  /** Takes nothing more, and drops what waits. */
  refuse(reason: Error): void {
    this.#refusal ??= reason;
    this.#acknowledge = -1;
    this.#credits.clear();
    for (const queue of [this.#control, this.#bulk]) {
      for (const { reject } of queue.splice(0)) reject(reason);
    }
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
    if (!this.#writing && !this.#broken) void this.#write();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    for (let next = this.#take(); next; next = this.#take()) {
      const sequence = this.#sequence;
      this.#sequence = (sequence + 1) >>> 0;
      const header = frameHeader(next.type, sequence, next.parts);
      this.#events.sending(next.type, sequence, header.length + header.readUInt32LE(0));
      try {
        await this.#connection.write([header, ...next.parts]);
      } catch (error) {
        this.#break(next, error);
        break;
      }
      this.#events.sent();
      next.resolve();
    }
    this.#writing = false;
  }

  #break(unsent: Outgoing, error: unknown): void {
    this.#broken = true;
    if (this.#refusal) unsent.reject(this.#refusal);
    else this.#control.unshift(unsent);
    this.#events.broken(asShrinkerError(error));
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
