/**
 * Below, at, or above 0, as `a[aAt, aAt + length)` is below, equal to, or above `b[bAt, bAt + length)`. Makes no views, and is
 * alike on all runtimes: Deno's `Buffer.compare` refuses ranges that lie differently in the two.
 */
export function compareBytes(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): number {
  for (let i = 0; i < length; i++) {
    const difference = a[aAt + i]! - b[bAt + i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}
