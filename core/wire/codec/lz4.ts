import lz4 from "lz4-wasm-nodejs";
import { IntegrityError } from "../../errors.ts";
import type { ColumnDecoder, ColumnEncoder } from "./codec.ts";

/** LZ4 blocks, each on its own, behind their length as a little-endian u32. */
export const lz4Encoder: ColumnEncoder = {
  async encode(bytes) {
    return [lz4.compress(bytes)];
  },
  close() {},
};

export const lz4Decoder: ColumnDecoder = {
  async decode(bytes, target) {
    // The library allocates what the prefix says, and wasm memory never shrinks.
    const claimed = bytes.length < 4 ? -1 : Buffer.from(bytes.buffer, bytes.byteOffset, 4).readUInt32LE();
    if (claimed !== target.length) {
      throw new IntegrityError(`An LZ4 block claims ${claimed} bytes instead of ${target.length}`);
    }
    let decoded: Uint8Array;
    try {
      decoded = lz4.decompress(bytes);
    } catch (error) {
      throw new IntegrityError("Compressed data is damaged", { cause: error });
    }
    if (decoded.length !== target.length) {
      throw new IntegrityError(`An LZ4 block holds ${decoded.length} bytes instead of ${target.length}`);
    }
    target.set(decoded);
  },
  close() {},
};
