import { IntegrityError, ProtocolError } from "../../errors.ts";
import type { StreamInfo } from "../machine.ts";

/** Counts a stream's bytes against the size that was announced. */
export function countLength({ name, size }: StreamInfo) {
  const limit = size ?? Number.MAX_SAFE_INTEGER;
  let total = 0;
  return {
    get total(): number {
      return total;
    },
    /** Counts `length` more; returns the offset at which they begin. Throws a `ProtocolError` where they are too many. */
    advance(length: number): number {
      if (length > limit - total)
        throw new ProtocolError(`"${name}" has more than the ${limit} bytes that it may have`);
      total += length;
      return total - length;
    },
    /** Throws an `IntegrityError` where bytes are missing. */
    finish(): void {
      if (size !== undefined && total < size) {
        throw new IntegrityError(`"${name}" ended after ${total} of ${size} bytes; send it again`);
      }
    },
  };
}
