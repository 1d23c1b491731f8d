import { LinkError, ProtocolError } from "../../core/errors.ts";
import { distance, MAX_SEGMENT, SEGMENT_HEADER_BYTES } from "./format.ts";

const NOTHING = new Uint8Array(0);

/** What has come over one connection and was not taken yet: at most one piece. */
interface Lane {
  piece: Uint8Array;
  /** How much of the piece is taken. */
  at: number;
  readonly header: Buffer;
  /** Bytes of the header that have come. */
  headed: number;
  /** The number of the segment that has begun; undefined where its header has not come. */
  number: number | undefined;
  /** Bytes of it that are to be taken. */
  left: number;
  /** The number of the last segment, and whether there was any. */
  last: number | undefined;
  /** How many segments the direction has, where the end was said. */
  total: number | undefined;
  closed: boolean;
}

/**
 * Puts the segments of several connections into their order. It asks each connection for one piece at a time. As numbers grow
 * along a connection, the segment that is due is always the first that has not been taken of its own: so it comes, however
 * little the others may hold.
 */
export class Joiner {
  readonly #lanes: Lane[];
  readonly #peer: string;
  /** The number of the segment that is due. */
  #due = 0;
  #current: Lane | undefined;

  /**
   * @param peer for messages
   * @param first the number of the first segment; for tests
   */
  constructor(count: number, peer: string, first = 0) {
    this.#peer = peer;
    this.#due = first;
    this.#lanes = Array.from({ length: count }, () => ({
      piece: NOTHING,
      at: 0,
      header: Buffer.alloc(SEGMENT_HEADER_BYTES),
      headed: 0,
      number: undefined,
      left: 0,
      last: undefined,
      total: undefined,
      closed: false,
    }));
  }

  /** Whether a connection's next piece can be taken in: nothing is left of the one before. */
  wants(index: number): boolean {
    const { at, piece, closed } = this.#lanes[index]!;
    return at === piece.length && !closed;
  }

  /** Takes in the next piece of a connection that `wants` it. Throws a `ProtocolError`. */
  give(index: number, piece: Uint8Array): void {
    const lane = this.#lanes[index]!;
    lane.piece = piece;
    lane.at = 0;
    this.#parse(lane);
  }

  /** A connection gives no more. Throws a `LinkError` where its end was not said before. */
  close(index: number): void {
    const lane = this.#lanes[index]!;
    if (lane.total === undefined) throw new LinkError(`${this.#peer} closed one of several connections before its end`);
    lane.closed = true;
  }

  /** The next bytes, in order; undefined while they have not come, or where there are none. Throws a `ProtocolError`. */
  take(): Uint8Array | undefined {
    const lane = this.#current ?? this.#find();
    if (lane === undefined || lane.at === lane.piece.length) return undefined;
    const start = lane.at;
    lane.at = Math.min(lane.piece.length, start + lane.left);
    lane.left -= lane.at - start;
    const part = lane.piece.subarray(start, lane.at);
    if (lane.left > 0) return part;
    this.#due = (this.#due + 1) >>> 0;
    this.#current = undefined;
    lane.number = undefined;
    this.#parse(lane);
    return part;
  }

  /** Whether everything was taken, and every connection has ended. Throws a `ProtocolError` where something never came. */
  get over(): boolean {
    if (!this.#lanes.every(({ closed }) => closed)) return false;
    if (this.#lanes.some(({ total }) => total !== this.#due)) throw this.#gap();
    return true;
  }

  #find(): Lane | undefined {
    let open = false;
    for (const lane of this.#lanes) {
      if (lane.number === this.#due) {
        this.#current = lane;
        return lane;
      }
      // Two of one number: the second would wait for ever.
      if (lane.number !== undefined && distance(this.#due, lane.number) < 0) throw this.#wrong(lane.number);
      open ||= lane.number === undefined && !lane.closed;
    }
    if (!open && !this.#lanes.every(({ closed }) => closed)) throw this.#gap();
    return undefined;
  }

  /** Reads the header of the next segment, as far as it has come. */
  #parse(lane: Lane): void {
    const { header, piece } = lane;
    if (lane.number !== undefined || lane.at === piece.length) return;
    if (lane.total !== undefined) throw new ProtocolError(`${this.#peer} sends more after the end`);
    while (lane.headed < SEGMENT_HEADER_BYTES) {
      if (lane.at === piece.length) return;
      header[lane.headed++] = piece[lane.at++]!;
    }
    lane.headed = 0;
    const length = header.readUInt32LE(0);
    const number = header.readUInt32LE(4);
    if (length > MAX_SEGMENT) throw new ProtocolError(`${this.#peer} sends a segment of ${length} bytes`);
    const grows = lane.last === undefined || distance(lane.last, number) > 0;
    if (!grows || distance(this.#due, number) < 0) throw this.#wrong(number);
    if (length === 0) {
      lane.total = number;
      if (lane.at < piece.length) throw new ProtocolError(`${this.#peer} sends more after the end`);
      return;
    }
    lane.last = number;
    lane.number = number;
    lane.left = length;
  }

  #wrong(number: number): ProtocolError {
    return new ProtocolError(`${this.#peer} sends segment ${number} where ${this.#due} is due`);
  }

  #gap(): ProtocolError {
    return new ProtocolError(`${this.#peer} sends no segment ${this.#due}, but later ones`);
  }
}
