import { TransformStream } from "node:stream/web";
import type { Piece, StreamInfo, StreamTarget } from "../machines/machine.ts";

/** Reads a stream to its end. Streams may come side by side. */
export type ReadStream = (info: StreamInfo, pieces: AsyncIterable<Piece>) => Promise<void>;

/** A target that reads what arrives, as if it were a source, and keeps nothing. */
export function scanningTarget(read: ReadStream): StreamTarget {
  return {
    async open(info) {
      const { readable, writable } = new TransformStream<Piece, Piece>();
      const writer = writable.getWriter();
      const done = read(info, readable);
      // Whoever writes learns of it, also where the reader never began to take anything.
      done.catch((error) => writer.abort(error).catch(() => {}));
      writer.closed.catch(() => {});
      const put = async (piece: Piece) => {
        try {
          await writer.write(piece);
        } catch (error) {
          await done;
          throw error;
        }
      };
      return {
        write: put,
        zeros: (length) => put({ zeros: length }),
        async finish() {
          await writer.close().catch(() => {});
          await done;
        },
        async commit() {},
        async abort() {
          await writer.abort(new Error("the stream is not complete")).catch(() => {});
          await done.catch(() => {});
        },
      };
    },
  };
}
