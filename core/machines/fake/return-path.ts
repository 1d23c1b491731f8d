/** What a destination says to the source: be16 type, be16 length, and so many bytes. Only these come in pre-copy. */
const SHUT = 1;
const PONG = 2;

/** Longer than any message that a destination sends. */
const MAX_DATA = 512;

export function encodePong(value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(0, PONG, 0, 4), value]);
}

/** @param failed whether the destination could not load the guest */
export function encodeShut(failed: boolean): Buffer {
  return Buffer.of(0, SHUT, 0, 4, 0, 0, 0, failed ? 1 : 0);
}

/** Reads a destination's messages at the source. */
export class ReturnPath {
  #held: Buffer = Buffer.alloc(0);
  /** What the destination ended with: whether it has the guest, or has failed; undefined until then. */
  outcome: "loaded" | "failed" | undefined;

  /** Takes the next bytes; throws for what no destination says in pre-copy. */
  push(bytes: Uint8Array): void {
    this.#held = Buffer.concat([this.#held, bytes]);
    while (this.#held.length >= 4) {
      const type = this.#held.readUInt16BE(0);
      const length = this.#held.readUInt16BE(2);
      if (length > MAX_DATA || (type !== SHUT && type !== PONG) || length !== 4)
        throw new Error(`Received unexpected message 0x${type.toString(16)} of ${length} bytes on the return path`);
      if (this.#held.length < 4 + length) return;
      if (type === SHUT) this.outcome = this.#held.readUInt32BE(4) === 0 ? "loaded" : "failed";
      this.#held = this.#held.subarray(4 + length);
    }
  }
}
