/**
 * A bounded number of buffers of one size that are used again and again, so that memory stays flat however much passes
 * through. They are made when first needed. Each has an `ArrayBuffer` of its own and may be transferred.
 */
export class BufferPool {
  readonly #size: number;
  #unmade: number;
  readonly #free: Uint8Array[] = [];
  readonly #waiting: PromiseWithResolvers<Uint8Array>[] = [];
  #closed: Error | undefined;

  /**
   * @param count how many buffers may be out at once
   * @param size bytes in each
   */
  constructor(count: number, size: number) {
    this.#unmade = count;
    this.#size = size;
  }

  /** The next free buffer, first come, first served. Rejects with the reason once the pool is closed. */
  async take(): Promise<Uint8Array> {
    if (this.#closed) throw this.#closed;
    const free = this.#free.pop();
    if (free) return free;
    if (this.#unmade > 0) {
      this.#unmade--;
      return new Uint8Array(this.#size);
    }
    const waiting = Promise.withResolvers<Uint8Array>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  /** Takes a buffer back, or the one that came back in its place; what is of another size or was transferred is replaced. */
  give(buffer: Uint8Array): void {
    if (this.#closed) return;
    const whole = buffer.byteLength === this.#size && buffer.buffer.byteLength === this.#size;
    const free = whole ? buffer : new Uint8Array(this.#size);
    const next = this.#waiting.shift();
    if (next) next.resolve(free);
    else this.#free.push(free);
  }

  /** Frees what is here, takes nothing back, and rejects who waits. */
  close(reason: Error): void {
    this.#closed ??= reason;
    this.#free.length = 0;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#closed);
  }
}
