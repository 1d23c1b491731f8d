import { IntegrityError, LinkError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import { type Frame, FrameReader } from "../wire/frame.ts";

/** One connection of a link: reads its frames, and knows when the peer was heard. */
export class Channel {
  readonly connection: Connection;
  readonly reader: FrameReader;
  /** The peer's bytes, whole frames or not, for who doesn't want the reader's frames any more. */
  readonly input: AsyncGenerator<Uint8Array>;
  /** When the last byte came. Silence means something only while somebody reads. */
  heard = performance.now();
  reading = false;
  bytesIn = 0;
  bytesOut = 0;
  /** Something came, or was acknowledged: the connection was good for something. */
  useful = false;
  readonly since = performance.now();
  #ended = false;

  constructor(connection: Connection) {
    this.connection = connection;
    this.input = this.#listen(connection.input);
    this.reader = new FrameReader(this.input, connection.peer, !connection.duplex);
    this.reader.keepDigest(!connection.duplex);
  }

  /** The next frame, or undefined where the peer has ended its direction. */
  async next(): Promise<Frame | undefined> {
    this.reading = true;
    try {
      return await this.reader.next();
    } catch (error) {
      throw this.#explain(error);
    } finally {
      this.reading = false;
    }
  }

  /** A connection that ends within a frame was cut; a recording that does was cut short. */
  #explain(error: unknown): unknown {
    if (!this.connection.duplex || !this.#ended || !(error instanceof IntegrityError)) return error;
    return new LinkError(`${this.connection.peer} closed the connection in the middle of a frame: run again`);
  }

  /** A large frame on a slow link takes longer than `dead`: each of its bytes is a sign of life. */
  async *#listen(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of input) {
      this.heard = performance.now();
      this.bytesIn += piece.length;
      yield piece;
    }
    this.#ended = true;
  }
}
