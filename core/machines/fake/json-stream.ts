/** What QEMU would not take either, were its limit lower: the longest message in bytes. */
const MAX_MESSAGE = 1 << 20;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Cuts a stream of JSON objects, with or without anything between them, into their texts. What is no object is given up to
 * the line's end, for the parser to complain about.
 */
export class JsonSplitter {
  /** What has come of the message that has begun, at the beginning of a buffer with room for more: it may come byte by byte. */
  #buffer: Buffer = Buffer.alloc(0);
  #held: Buffer = this.#buffer;
  /** Up to where `#held` was looked at, and what was found there. */
  #at = 0;
  #depth = 0;
  #inString = false;

  /**
   * Takes the next bytes and gives the messages that they complete. Gives `undefined` where a message is too long, after
   * which the connection is of no use.
   */
  push(bytes: Uint8Array): string[] | undefined {
    this.#hold(bytes);
    const messages: string[] = [];
    let start = 0;
    for (; this.#at < this.#held.length; this.#at++) {
      if (!this.#ends(this.#held[this.#at]!)) continue;
      const text = this.#held.toString("utf8", start, this.#at + 1).trim();
      start = this.#at + 1;
      if (text !== "") messages.push(text);
    }
    this.#held.copyWithin(0, start);
    this.#held = this.#buffer.subarray(0, this.#held.length - start);
    this.#at -= start;
    return this.#held.length > MAX_MESSAGE ? undefined : messages;
  }

  #hold(bytes: Uint8Array): void {
    const length = this.#held.length + bytes.length;
    if (length > this.#buffer.length) {
      this.#buffer = Buffer.allocUnsafeSlow(2 * length);
      this.#buffer.set(this.#held);
    }
    this.#buffer.set(bytes, this.#held.length);
    this.#held = this.#buffer.subarray(0, length);
  }

  /** Whether a message ends with this byte. */
  #ends(byte: number): boolean {
    if (this.#inString) {
      if (byte === BACKSLASH) this.#at++;
      else if (byte === QUOTE) this.#inString = false;
      return false;
    }
    switch (String.fromCharCode(byte)) {
      case '"':
        this.#inString = this.#depth > 0;
        return false;
      case "{":
      case "[":
        this.#depth++;
        return false;
      case "}":
      case "]":
        if (this.#depth > 0) this.#depth--;
        return this.#depth === 0;
      case "\n":
        return this.#depth === 0;
      default:
        return false;
    }
  }
}
