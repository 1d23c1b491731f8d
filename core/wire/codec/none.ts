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
    checkPlainLength(bytes, target.length);
    target.set(bytes);
  },
  close() {},
};

/** Throws an `IntegrityError` where a column that is not compressed has another length than is said. */
export function checkPlainLength(bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw new IntegrityError(`A column has ${bytes.length} bytes instead of ${length}`);
}
