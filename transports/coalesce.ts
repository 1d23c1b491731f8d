/** Buffers up to this size are worth a copy, for a system call (and a packet) costs more. */
const SMALL = 16 * 1024;
/** The most that is joined into one. */
const JOINED = 64 * 1024;

/** Joins neighbours that are small; passes big buffers through as they are. */
export function* coalesce(buffers: readonly Uint8Array[]): Generator<Uint8Array> {
  let small: Uint8Array[] = [];
  let length = 0;
  for (const buffer of buffers) {
    if (small.length > 0 && (buffer.length > SMALL || length + buffer.length > JOINED)) {
      yield small.length === 1 ? small[0]! : Buffer.concat(small, length);
      small = [];
      length = 0;
    }
    if (buffer.length > SMALL) yield buffer;
    else if (buffer.length > 0) {
      small.push(buffer);
      length += buffer.length;
    }
  }
  if (small.length > 0) yield small.length === 1 ? small[0]! : Buffer.concat(small, length);
}
