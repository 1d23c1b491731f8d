import { IntegrityError } from "../../errors.ts";
import type { ColumnDecoder, ColumnEncoder } from "./codec.ts";

/** Bytes as they are. */
export const noneEncoder: ColumnEncoder = {
  async encode(bytes) {
    return [bytes];
  },
  close() {},
};

export const noneDecoder: ColumnDecoder = {
  async decode(bytes, target) {
    if (bytes.length !== target.length) {
      throw new IntegrityError(`A column has ${bytes.length} bytes instead of ${target.length}`);
    }
    target.set(bytes);
  },
  close() {},
};
