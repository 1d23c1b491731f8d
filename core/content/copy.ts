const copy = Buffer.prototype.copy as (
  this: Uint8Array,
  target: Uint8Array,
  targetStart: number,
  start: number,
  end: number,
) => number;

/** `target.set(source.subarray(start, end), at)` without making a view. */
export function copyBytes(source: Uint8Array, target: Uint8Array, at: number, start: number, end: number): void {
  copy.call(source, target, at, start, end);
}
