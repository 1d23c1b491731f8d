import type { Socket } from "node:net";

/** Bytes that may wait here until somebody reads them; then the server has to wait. */
const MAX_WAITING = 1 << 20;
const CLOSE_MS = 1000;

interface Wanted {
  readonly into: Uint8Array;
  got: number;
  readonly done: PromiseWithResolvers<void>;
}

/** A socket that is read by lengths that are known beforehand, straight to where the bytes belong. */
export class Channel {
  readonly #socket: Socket;
  readonly #waiting: Uint8Array[] = [];
  #size = 0;
  #wanted: Wanted | undefined;
  #failure: Error | undefined;

  /** @param lost called when the connection has ended or broken, perhaps again */
  constructor(socket: Socket, lost: (cause?: Error) => void) {
    this.#socket = socket;
    socket.on("data", (piece: Uint8Array) => this.#take(piece));
    socket.on("error", (error) => lost(error));
    for (const event of ["end", "close"]) socket.on(event, () => lost());
    if (socket.destroyed) lost();
  }

  /** Fills `into`. One call at a time; rejects with the reason once the channel has failed. */
  fill(into: Uint8Array): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const done = Promise.withResolvers<void>();
    this.#wanted = { into, got: 0, done };
    this.#move();
    return done.promise;
  }

  /** The next `length` bytes; the caller has checked that they are not too many. */
  async take(length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length);
    if (length > 0) await this.fill(bytes);
    return bytes;
  }

  write(bytes: Uint8Array): void {
    if (!this.#failure) this.#socket.write(bytes);
  }

  /** Says `last` and ends; resolves when the server has closed the connection too, or after a second. */
  async end(last: Uint8Array): Promise<void> {
    const closed = Promise.withResolvers<void>();
    const timer = setTimeout(closed.resolve, CLOSE_MS);
    this.#socket.once("close", closed.resolve);
    this.#socket.end(last);
    await closed.promise;
    clearTimeout(timer);
  }

  /** Ends the channel at once: what waits is rejected, nothing more is read or written. */
  fail(reason: Error): void {
    this.#failure ??= reason;
    this.#wanted?.done.reject(this.#failure);
    this.#wanted = undefined;
    this.#waiting.length = 0;
    this.#socket.destroy();
  }

  #take(piece: Uint8Array): void {
    if (this.#failure) return;
    this.#waiting.push(piece);
    this.#size += piece.length;
    this.#move();
    if (this.#size >= MAX_WAITING) this.#socket.pause();
  }

  #move(): void {
    const wanted = this.#wanted;
    if (!wanted) return;
    while (wanted.got < wanted.into.length && this.#waiting.length > 0) {
      const piece = this.#waiting[0]!;
      const part = piece.subarray(0, wanted.into.length - wanted.got);
      wanted.into.set(part, wanted.got);
      wanted.got += part.length;
      this.#size -= part.length;
      if (part.length === piece.length) this.#waiting.shift();
      else this.#waiting[0] = piece.subarray(part.length);
    }
    if (this.#size < MAX_WAITING && this.#socket.isPaused()) this.#socket.resume();
    if (wanted.got < wanted.into.length) return;
    this.#wanted = undefined;
    wanted.done.resolve();
  }
}
