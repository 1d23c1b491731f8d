import type { Connection } from "./transport.ts";

/** A connection that knows how many bytes went each way. */
export interface CountedConnection extends Connection {
  /** Bytes that the consumer of `input` was given. */
  readonly bytesIn: number;
  /** Bytes of the writes that the connection has accepted, that is, whose promise has resolved. */
  readonly bytesOut: number;
}

/** Counts what a connection carries: the bytes on the link, after compression. */
export function countBytes(connection: Connection): CountedConnection {
  let bytesIn = 0;
  let bytesOut = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const piece of connection.input) {
      bytesIn += piece.length;
      yield piece;
    }
  }
  return {
    ...connection,
    input: counted(),
    async write(buffers) {
      // Counted first: the caller may reuse its array as soon as the write resolves.
      const length = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
      await connection.write(buffers);
      bytesOut += length;
    },
    get bytesIn() {
      return bytesIn;
    },
    get bytesOut() {
      return bytesOut;
    },
  };
}
