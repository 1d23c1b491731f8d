import { constants, createZstdCompress, createZstdDecompress, type ZstdCompress, type ZstdDecompress } from "node:zlib";
import { IntegrityError, ShrinkerError } from "../../errors.ts";
import type { ColumnDecoder, ColumnEncoder } from "./codec.ts";

/** From this window on, matches are also looked for with a sparse table over the whole window. */
const LONG_WINDOW_LOG = 24;
/**
 * How long such a match is at least, how sparse the table is (an entry in 2^8 bytes), and the size of the table for short
 * matches, which then stays in the cache. On pages of guests the library's own choice (64, 2^7, 2^16) takes a third more
 * time for 1.8 % fewer bytes.
 */
const LONG_MATCH = {
  [constants.ZSTD_c_ldmMinMatch]: 128,
  [constants.ZSTD_c_ldmHashRateLog]: 8,
  [constants.ZSTD_c_chainLog]: 15,
};
/** Size of the pieces that the codec gives: each costs a way to its thread and back, so an encoded batch should fit in one. */
const ENCODED_BYTES = 1 << 20;
const DECODED_BYTES = 1 << 17;

export interface ZstdOptions {
  readonly level: number;
  /** Binary logarithm of the window: how far back a match may lie. The encoder takes about 1.4 windows of memory, the decoder 1.1. */
  readonly windowLog: number;
}

/** One zstd stream (RFC 8878), flushed after each piece, so that the other end can decode it at once. */
export function zstdEncoder(options: ZstdOptions): ColumnEncoder {
  let stream: ZstdCompress | undefined;
  let parts: Uint8Array[] = [];
  let fail: (error: unknown) => void = () => {};
  const open = () => {
    const created = createZstdCompress({
      chunkSize: ENCODED_BYTES,
      flush: constants.ZSTD_e_flush,
      params: {
        [constants.ZSTD_c_compressionLevel]: options.level,
        [constants.ZSTD_c_windowLog]: options.windowLog,
        ...(options.windowLog >= LONG_WINDOW_LOG && {
          [constants.ZSTD_c_enableLongDistanceMatching]: 1,
          ...LONG_MATCH,
        }),
      },
    });
    created.on("readable", () => pull(created));
    created.on("error", (error) => fail(error));
    created.on("close", () => fail(new Error("closed")));
    return created;
  };
  const pull = (from: ZstdCompress) => {
    for (let part = from.read() as Uint8Array | null; part; part = from.read() as Uint8Array | null) parts.push(part);
  };
  return {
    encode(bytes) {
      stream ??= open();
      const { promise, resolve, reject } = Promise.withResolvers<Uint8Array[]>();
      parts = [];
      fail = (error) => reject(new ShrinkerError("bug", "The compressor failed", { cause: error }));
      // A stream that is destroyed says nothing more, and calls back as if all were well.
      if (stream.destroyed) fail(new Error("closed"));
      const used = stream;
      // All output is there when the write is done; to wait for its events would leave the compressor idle for a turn.
      used.write(bytes, () => {
        pull(used);
        resolve(parts);
      });
      return promise;
    },
    close() {
      stream?.destroy();
    },
  };
}

/** @param maxWindowLog the largest window to accept: what was negotiated, so that a peer can't make this end allocate more */
export function zstdDecoder(maxWindowLog: number): ColumnDecoder {
  let stream: ZstdDecompress | undefined;
  let take: (part: Uint8Array) => void = () => {};
  let fail: (error: unknown) => void = () => {};
  const open = () => {
    const created = createZstdDecompress({
      chunkSize: DECODED_BYTES,
      params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog },
    });
    created.on("data", (part: Uint8Array) => take(part));
    created.on("error", (error) => fail(error));
    created.on("close", () => fail(new Error("closed")));
    return created;
  };
  return {
    decode(bytes, target) {
      stream ??= open();
      const used = stream;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      let done = 0;
      fail = (error) => reject(new IntegrityError("Compressed data is damaged", { cause: error }));
      take = (part) => {
        if (done + part.length > target.length) {
          reject(new IntegrityError(`Compressed data holds more than the ${target.length} bytes it was said to hold`));
          used.destroy();
          return;
        }
        target.set(part, done);
        done += part.length;
      };
      used.write(bytes, () => {
        // All input is consumed; what it made arrives within a turn of the event loop.
        setImmediate(() => {
          if (done === target.length) resolve();
          else reject(new IntegrityError(`Compressed data holds ${done} bytes instead of ${target.length}`));
        });
      });
      return promise;
    },
    close() {
      stream?.destroy();
    },
  };
}
