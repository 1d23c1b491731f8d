import { createHash, type Hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { SizedPool } from "../content/sized-pool.ts";
import { IntegrityError, LinkError, ProtocolError, ShrinkerError } from "../errors.ts";
import { asBuffer, printable } from "./bytes.ts";
import {
  FRAME,
  FRAME_HEADER_BYTES,
  MAGIC,
  MAX_CONTROL,
  MAX_PAYLOAD,
  PREFACE_BYTES,
  PROTOCOL_VERSION,
} from "./numbers.ts";

/** One frame as it was read; its checksums were right. */
export interface Frame {
  readonly type: number;
  /** Counts the frames of this direction, from 0. */
  readonly sequence: number;
  readonly payload: Buffer;
  /** Gives the payload's memory back to be used for another; may be left out. Of batches only. */
  release?(): void;
}

/** Payloads of batches that are assembled have memory that is used again: most fit into a buffer of this size. */
const POOLED_PAYLOAD = 2 << 20;
/** Bytes of it that may be idle. */
const IDLE_PAYLOADS = 4 << 20;

/** The 16 bytes that open each direction. */
export function preface(version: number = PROTOCOL_VERSION): Buffer {
  const bytes = Buffer.alloc(PREFACE_BYTES);
  bytes.set(MAGIC);
  bytes.writeUInt16LE(version, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 12)), 12);
  return bytes;
}

/** The header of a frame whose payload is `parts`, one after the other. */
export function frameHeader(type: number, sequence: number, parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  let checksum = 0;
  for (const part of parts) {
    length += part.length;
    checksum = crc32(part, checksum);
  }
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32LE(length, 0);
  header.writeUInt8(type, 4);
  header.writeUInt32LE(sequence, 8);
  header.writeUInt32LE(checksum, 12);
  header.writeUInt32LE(crc32(header.subarray(0, 16)), 16);
  return header;
}

/** A direction's preface, and its first frame. */
export function opening(type: number, payload: Uint8Array): Buffer {
  return Buffer.concat([preface(), frameHeader(type, 0, [payload]), payload]);
}

function limit(type: number): number {
  const large = type === FRAME.BATCH || type === FRAME.CONTENT || type === FRAME.SUMMARY;
  return large ? MAX_PAYLOAD : MAX_CONTROL;
}

/**
 * Reads a preface and frames from the pieces of one direction. A payload that lies within one piece is a view of it;
 * others are assembled. Nothing is allocated before the header's own checksum has vouched for the length.
 */
export class FrameReader {
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #from: string;
  readonly #recorded: boolean;
  readonly #pool = new SizedPool(POOLED_PAYLOAD, IDLE_PAYLOADS);
  #piece: Buffer = Buffer.alloc(0);
  #at = 0;
  #offset = 0;
  #sequence = 0;
  /** Of all bytes so far, but those of a SIGNATURE. */
  #hash: Hash | undefined;

  /**
   * @param from where the bytes come from, for messages: a peer's address, or a file
   * @param recorded whether they are a recording, which can be damaged but not be somebody else
   */
  constructor(input: AsyncIterable<Uint8Array>, from: string, recorded = false) {
    this.#pieces = input[Symbol.asyncIterator]();
    this.#from = from;
    this.#recorded = recorded;
  }

  /** The next frame has this number: the frames before it came over another connection. */
  expect(sequence: number): void {
    this.#sequence = sequence;
  }

  /** Whether `digest` may be asked for; to be said before anything is read, and taken back at any time. */
  keepDigest(keep: boolean): void {
    this.#hash = keep ? createHash("sha256") : undefined;
  }

  /** SHA-256 of all bytes that were read, except a SIGNATURE's; to be asked for once. */
  digest(): Buffer {
    if (!this.#hash) throw new ShrinkerError("bug", `Nobody has kept the digest of ${this.#from}`);
    const digest = this.#hash.digest();
    this.#hash = undefined;
    return digest;
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  /**
   * Reads the preface. Rejects with a `LinkError` that quotes what came instead (a login banner), an `IntegrityError` for
   * a recording, or `refused` for another version.
   */
  async preface(): Promise<void> {
    const bytes = await this.#take(PREFACE_BYTES);
    if (this.#recorded && (bytes?.length !== PREFACE_BYTES || MAGIC.some((value, i) => bytes[i] !== value))) {
      throw new IntegrityError(`${this.#from} is not a bundle, or its beginning is damaged: copy or make it again`);
    }
    if (bytes === undefined || bytes.length < PREFACE_BYTES) {
      if (bytes === undefined || MAGIC.subarray(0, bytes.length).every((value, i) => bytes[i] === value)) {
        throw new LinkError(`${this.#from} ended before it said anything${this.#quote(bytes)}: is it a shrinker?`);
      }
    } else if (Buffer.compare(bytes.subarray(0, MAGIC.length), MAGIC) === 0) {
      if (bytes.readUInt32LE(12) !== crc32(bytes.subarray(0, 12))) {
        throw new IntegrityError(`${this.#from} begins with damaged bytes: send or copy it again`);
      }
      const version = bytes.readUInt16LE(8);
      if (version === PROTOCOL_VERSION) {
        this.#hash?.update(bytes);
        return;
      }
      throw new ShrinkerError(
        "refused",
        `${this.#from} uses protocol version ${version}, this is version ${PROTOCOL_VERSION}: use the same release of shrinker at both ends`,
      );
    }
    throw new LinkError(`${this.#from} does not speak the shrinker protocol${this.#quote(bytes)}`);
  }

  /** The next frame, or undefined where the direction ends between two frames. */
  async next(): Promise<Frame | undefined> {
    const start = this.#offset;
    const header = await this.#take(FRAME_HEADER_BYTES);
    if (header === undefined) return undefined;
    if (header.length < FRAME_HEADER_BYTES) throw this.#truncated();
    if (header.readUInt32LE(16) !== crc32(header.subarray(0, 16))) {
      throw new IntegrityError(
        `${this.#from} is damaged at byte ${start}: a frame's header does not match its checksum`,
      );
    }
    const length = header.readUInt32LE(0);
    const type = header.readUInt8(4);
    const sequence = header.readUInt32LE(8);
    const checksum = header.readUInt32LE(12);
    if (length > limit(type) || header.readUInt8(5) !== 0 || header.readUInt16LE(6) !== 0) {
      throw new ProtocolError(
        `${this.#from} breaks the protocol at byte ${start}: a frame of type ${type} and ${length} bytes`,
      );
    }
    if (sequence !== this.#sequence) {
      throw new ProtocolError(
        `${this.#from} breaks the protocol at byte ${start}: frame ${sequence} where ${this.#sequence} is due`,
      );
    }
    this.#sequence = (this.#sequence + 1) >>> 0;
    const room = type === FRAME.BATCH && !this.#has(length) ? this.#room(length) : undefined;
    const payload = length === 0 ? Buffer.alloc(0) : await this.#take(length, room?.subarray(0, length));
    if (payload === undefined || payload.length < length) throw this.#truncated();
    if (crc32(payload) !== checksum) {
      throw new IntegrityError(`${this.#from} is damaged after byte ${start}: a frame does not match its checksum`);
    }
    if (type !== FRAME.SIGNATURE) this.#hash?.update(header).update(payload);
    return { type, sequence, payload, ...(room && { release: () => this.#pool.give(room) }) };
  }

  #truncated(): IntegrityError {
    return new IntegrityError(`${this.#from} ends in the middle of a frame, at byte ${this.#offset}: it is cut short`);
  }

  #quote(bytes: Uint8Array | undefined): string {
    const rest = Buffer.concat([bytes ?? Buffer.alloc(0), this.#piece.subarray(this.#at)]);
    const text = printable(rest, 160);
    return text === "" ? "" : ` (it said: "${text}")`;
  }

  /** Whether so many bytes are here, in one piece. */
  #has(length: number): boolean {
    return this.#piece.length - this.#at >= length;
  }

  /** Pooled memory for a payload; undefined where it is too long for that. */
  #room(length: number): Buffer | undefined {
    return length <= POOLED_PAYLOAD ? asBuffer(this.#pool.take(length)) : undefined;
  }

  /**
   * `length` bytes, fewer where the input ends before, undefined where it ends at once.
   * @param room where they are put together, where they don't come in one piece
   */
  async #take(length: number, room?: Buffer): Promise<Buffer | undefined> {
    if (this.#at === this.#piece.length && !(await this.#more())) return undefined;
    if (this.#has(length)) {
      const view = this.#piece.subarray(this.#at, this.#at + length);
      this.#at += length;
      this.#offset += length;
      return view;
    }
    const whole = room ?? Buffer.allocUnsafeSlow(length);
    let done = 0;
    while (done < length) {
      if (this.#at === this.#piece.length && !(await this.#more())) return whole.subarray(0, done);
      const part = Math.min(length - done, this.#piece.length - this.#at);
      this.#piece.copy(whole, done, this.#at, this.#at + part);
      this.#at += part;
      this.#offset += part;
      done += part;
    }
    return whole;
  }

  async #more(): Promise<boolean> {
    do {
      const { done, value } = await this.#pieces.next();
      if (done) return false;
      this.#piece = asBuffer(value);
      this.#at = 0;
    } while (this.#piece.length === 0);
    return true;
  }
}
