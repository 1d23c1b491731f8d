import { ProtocolError } from "../../core/errors.ts";

/**
 * What is on the stream, each way: words of 32 bits (little-endian). One below 2^31 is the length of a piece, which follows.
 * The others are about the stream, for its runtimes differ:
 * - the end of a direction is a word, since they don't tell the end of a stream from that of its connection;
 * - so is that it has arrived, since closing a connection drops what is on its way;
 * - and so is how much may be sent, since not all of them hold a peer back when nobody reads (Bun 1.4).
 */
export const WORD = {
  /** The dialler's first: a stream exists for the peer only once something is sent. */
  OPENED: 0xffff_ffff,
  /** No piece follows. */
  ENDED: 0xffff_fffe,
  /** The peer's `ENDED` or `DROPPED` has arrived, and so everything before it. */
  HEARD: 0xffff_fffd,
  /** Nothing follows, and nothing is read any more. */
  DROPPED: 0xffff_fffc,
  /** 2^31 and a number of bytes: the peer may send so much more. */
  GRANT: 0x8000_0000,
} as const;

/** Longest piece. */
export const MAX_PIECE = 0x7fff_ffff;
/** Most that one word grants. */
export const MAX_GRANT = 0x7eff_ffff;
/** What a piece costs of what is granted, besides its bytes: tiny ones take more room than they have bytes. */
export const PIECE_COST = 128;

export interface Heard {
  /** A piece of a length begins. */
  begins(length: number): void;
  bytes(part: Uint8Array): void;
  ended(): void;
  dropped(): void;
  heard(): void;
  granted(bytes: number): void;
}

export function word(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Takes a stream apart, without copies. */
export class Unframer {
  readonly #peer: string;
  readonly #heard: Heard;
  #left = 0;
  #value = 0;
  #bits = 0;
  #started = false;
  #ended = false;

  constructor(peer: string, heard: Heard) {
    this.#peer = peer;
    this.#heard = heard;
  }

  /** Bytes of a piece that has begun, which have not come yet. */
  get left(): number {
    return this.#left;
  }

  /** Throws a `ProtocolError` where the stream is not one of ours. */
  take(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#left > 0) {
        const part = bytes.subarray(at, at + this.#left);
        at += part.length;
        this.#left -= part.length;
        this.#heard.bytes(part);
      } else {
        this.#value = (this.#value | (bytes[at++]! << this.#bits)) >>> 0;
        this.#bits += 8;
        if (this.#bits < 32) continue;
        this.#act(this.#value);
        this.#value = 0;
        this.#bits = 0;
      }
    }
  }

  #act(value: number): void {
    const first = !this.#started;
    this.#started = true;
    if (value > 0 && value <= MAX_PIECE && !this.#ended) {
      this.#left = value;
      this.#heard.begins(value);
    } else if (value > WORD.GRANT && value <= WORD.GRANT + MAX_GRANT) {
      this.#heard.granted(value - WORD.GRANT);
    } else if (value === WORD.ENDED && !this.#ended) {
      this.#ended = true;
      this.#heard.ended();
    } else if (value === WORD.DROPPED && !this.#ended) {
      this.#ended = true;
      this.#heard.dropped();
    } else if (value === WORD.HEARD) {
      this.#heard.heard();
    } else if (value !== WORD.OPENED || !first) {
      throw new ProtocolError(
        `${this.#peer} broke the framing of its stream: the word ${value.toString(16)} has no place there`,
      );
    }
  }
}
