import { ProtocolError } from "../errors.ts";
import { FRAME } from "../wire/numbers.ts";
import { FrameSlabs, type Slab } from "./frame-slabs.ts";

/** What a frame takes besides its bytes: many tiny ones must not hide from the bound. */
const FRAME_OVERHEAD = 128;

/** A frame as it was written. */
export interface KeptFrame {
  readonly type: number;
  readonly sequence: number;
  /** Bytes of header and payload. */
  readonly length: number;
  /** Header and payload, one behind the other. */
  readonly buffers: readonly Uint8Array[];
}

interface Kept extends KeptFrame {
  readonly slabs: readonly Slab[];
}

/** Of these only the latest counts, or none does: nothing is lost with them at the end of a session. */
function passing(type: number): boolean {
  return type === FRAME.ACK || type === FRAME.PING || type === FRAME.CREDIT;
}

/**
 * The frames of one direction that the peer has not acknowledged, as they were written, and which of them are to be
 * written next: again, after the connection was lost.
 */
export class KeptFrames {
  readonly #frames: Kept[] = [];
  readonly #memory = new FrameSlabs();
  /** The number of the first frame that is kept; of the next one, where none is. */
  #low: number;
  /** How many of those that are kept have been written to this connection. */
  #written = 0;
  #bytes = 0;
  #lasting = 0;

  /** @param next the number of the first frame that is going to be kept */
  constructor(next: number) {
    this.#low = next;
  }

  /** Bytes that are kept, with an allowance for each frame. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the peer has everything but what is of no use to it any more. */
  get settled(): boolean {
    return this.#lasting === 0;
  }

  /** The number of the next frame that `pending` gives. */
  get due(): number {
    return (this.#low + this.#written) >>> 0;
  }

  /**
   * Keeps a copy of the next frame; `pending` gives it in its turn.
   * @param parts header and payload
   */
  push(type: number, sequence: number, parts: readonly Uint8Array[]): void {
    const buffers: Uint8Array[] = [];
    const slabs = this.#memory.put(parts, buffers);
    const length = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    const frame = { type, sequence, length, buffers, slabs };
    this.#frames.push(frame);
    this.#count(frame, 1);
  }

  /** The frame that is to be written next, once. Its buffers are valid until it is acknowledged. */
  pending(): KeptFrame | undefined {
    const frame = this.#frames[this.#written];
    if (frame) this.#written++;
    return frame;
  }

  /** The peer has every frame up to `sequence`. Returns whether that is news; throws a `ProtocolError` where it can't be. */
  acknowledged(sequence: number): boolean {
    // Numbers go on with 0 after 2^32 - 1: what counts is how far one is from another.
    const count = ((sequence - this.#low) | 0) + 1;
    // Acknowledgements are written again as other frames are: an old one says nothing.
    if (count > this.#frames.length)
      throw new ProtocolError(`The peer acknowledges frame ${sequence}, which was not sent`);
    if (count > 0) this.#drop(count);
    return count > 0;
  }

  /** Whether the frames from `received` on can be given again: they were not acknowledged, and those before were sent. */
  reaches(received: number): boolean {
    const count = (received - this.#low) | 0;
    return count >= 0 && count <= this.#frames.length;
  }

  /** There is a new connection: `pending` gives every frame from `received` on. Returns whether any before were kept. */
  rewind(received: number): boolean {
    const count = (received - this.#low) | 0;
    this.#drop(count);
    this.#written = 0;
    return count > 0;
  }

  #drop(count: number): void {
    for (const frame of this.#frames.splice(0, count)) {
      this.#count(frame, -1);
      this.#memory.free(frame.slabs);
    }
    this.#low = (this.#low + count) >>> 0;
    this.#written = Math.max(0, this.#written - count);
  }

  #count({ type, length }: KeptFrame, sign: 1 | -1): void {
    this.#bytes += sign * (length + FRAME_OVERHEAD);
    if (!passing(type)) this.#lasting += sign;
  }
}
