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
      const stop = () => void breakOff(connection, abortReason(signal));
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
 * A stream to a connection's peer. The stream's end is the end of the direction; a stream that fails breaks the connection,
 * also while its peer takes nothing.
 * @param failed aborted when the stream has failed, with why
 * @param settled called without an error when the peer has been given everything, else with why not
 */
export function connectionSink(
  connection: Connection,
  failed: AbortSignal,
  settled: (error?: Error) => void,
): StreamSink {
  const stop = () => {
    settled(abortReason(failed));
    void breakOff(connection, abortReason(failed));
  };
  if (failed.aborted) stop();
  failed.addEventListener("abort", stop, { once: true });
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
      failed.removeEventListener("abort", stop);
      settled();
    },
    async abort() {
      failed.removeEventListener("abort", stop);
      settled(abortReason(failed));
      await breakOff(connection, abortReason(failed));
    },
  };
}
