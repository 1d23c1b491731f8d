import type { Frame } from "../wire/frame.ts";
import { ACK_BYTES, ACK_FRAMES, FRAME } from "../wire/numbers.ts";

/** What has arrived over a link, and how much of it the peer has not been told of. */
export class Receipts {
  /** The number of the next frame that is due. */
  due = 0;
  #frames = 0;
  #bytes = 0;
  #lasting = false;

  /** Counts a frame. Returns whether so much has come that the peer should be told now. */
  arrived({ type, sequence, payload }: Frame): boolean {
    this.due = (sequence + 1) >>> 0;
    this.#frames++;
    this.#bytes += payload.length;
    if (type !== FRAME.ACK && type !== FRAME.PING) this.#lasting = true;
    return this.#frames >= ACK_FRAMES || this.#bytes >= ACK_BYTES || type === FRAME.DONE;
  }

  /** The number of the last frame. */
  get last(): number {
    return (this.due - 1) >>> 0;
  }

  /** Whether anything has come that the peer was not told of. */
  get some(): boolean {
    return this.#frames > 0;
  }

  /** Whether that is more than acknowledgements and signs of life: two ends would tell each other of those for ever. */
  get lasting(): boolean {
    return this.#lasting;
  }

  /** The peer was told. */
  told(): void {
    this.#frames = 0;
    this.#bytes = 0;
    this.#lasting = false;
  }
}
