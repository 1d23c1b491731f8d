/** Frames are copied to memory of this size, one behind the other. */
const SLAB_BYTES = 1 << 20;
/** Idle ones that are kept for later. */
const MAX_IDLE = 4;

/** Memory of frames, so many of which are still needed. */
export interface Slab {
  readonly bytes: Buffer;
  frames: number;
}

/**
 * Room for frames that are needed no longer in the order in which they came: used again and again, as memory that is touched for the
 * first time costs more than the copy to it.
 */
export class FrameSlabs {
  readonly #idle: Slab[] = [];
  #current: Slab = newSlab();
  #at = 0;

  /**
   * Copies a frame.
   * @param parts what it consists of
   * @param views gets the copy, in as many parts as it takes slabs
   * @returns the slabs that it lies in, for `free`
   */
  put(parts: readonly Uint8Array[], views: Uint8Array[]): Slab[] {
    const slabs: Slab[] = [];
    let start = this.#at;
    for (const part of parts) {
      for (let from = 0; from < part.length; ) {
        if (this.#at === SLAB_BYTES) {
          if (this.#at > start) this.#hold(slabs, views, start);
          this.#next();
          start = 0;
        }
        const length = Math.min(part.length - from, SLAB_BYTES - this.#at);
        this.#current.bytes.set(length === part.length ? part : part.subarray(from, from + length), this.#at);
        this.#at += length;
        from += length;
      }
    }
    if (this.#at > start) this.#hold(slabs, views, start);
    return slabs;
  }

  /** A frame is not needed any more: those before it aren't either. */
  free(slabs: readonly Slab[]): void {
    for (const slab of slabs) {
      slab.frames--;
      if (slab.frames > 0) continue;
      if (slab === this.#current) this.#at = 0;
      else if (this.#idle.length < MAX_IDLE) this.#idle.push(slab);
    }
  }

  #hold(slabs: Slab[], views: Uint8Array[], start: number): void {
    this.#current.frames++;
    slabs.push(this.#current);
    views.push(this.#current.bytes.subarray(start, this.#at));
  }

  #next(): void {
    this.#current = this.#idle.pop() ?? newSlab();
    this.#at = 0;
  }
}

function newSlab(): Slab {
  return { bytes: Buffer.allocUnsafeSlow(SLAB_BYTES), frames: 0 };
}
