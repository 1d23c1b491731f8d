import { abortReason } from "../errors.ts";
import type { Piece, StreamInfo, StreamSink, StreamSource } from "../machines/machine.ts";
import type { Connection } from "../transport/transport.ts";

/** Drops a connection that has failed, so that its peer sees a failure where that can be told. */
export async function breakOff(connection: Connection, reason?: Error): Promise<void> {
  await (connection.reset ? connection.reset(reason) : connection.destroy(reason));
}

const ZEROS = Buffer.alloc(64 << 10);

/** What a connection's peer sends, as a stream. The signal breaks the connection. */
export function connectionSource(connection: Connection, info: StreamInfo): StreamSource {
  return {
    info,
    async *pieces(signal): AsyncGenerator<Piece> {
      const stop = () => void connection.destroy(abortReason(signal));
      if (signal.aborted) stop();
      signal.addEventListener("abort", stop, { once: true });
      try {
        for await (const bytes of connection.input) yield { bytes };
      } finally {
        signal.removeEventListener("abort", stop);
      }
    },
  };
}

/**
 * A stream to a connection's peer. The stream's end is the end of the direction; a stream that fails breaks the connection.
 * @param settled called once: without an error when the peer has been given everything
 */
export function connectionSink(connection: Connection, settled: (error?: Error) => void): StreamSink {
  return {
    async write(piece) {
      await connection.write([piece.bytes]);
      piece.release?.();
    },
    async zeros(length) {
      for (let left = length; left > 0; left -= ZEROS.length) await connection.write([ZEROS.subarray(0, left)]);
    },
    finish: () => connection.end(),
    async commit() {
      settled();
    },
    async abort() {
      settled(new Error("the stream failed"));
      await breakOff(connection);
    },
  };
}
