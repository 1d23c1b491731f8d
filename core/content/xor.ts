import { PAGE_WORDS } from "./page.ts";

/**
 * Writes the XOR of two pages into `target` and returns how many of its bytes are zero: the similarity of two versions
 * of a page. (Delta compression of re-sent pages: Hacking and Hudzia, VTDC 2009.) Offsets count 32-bit words.
 */
export function xorPages(
  a: Int32Array,
  aAt: number,
  b: Int32Array,
  bAt: number,
  target: Int32Array,
  targetAt: number,
): number {
  let zeros = 0;
  for (let i = 0; i < PAGE_WORDS; i++) {
    const x = a[aAt + i]! ^ b[bAt + i]!;
    target[targetAt + i] = x;
    if (x === 0) zeros += 4;
    else {
      if ((x & 0xff) === 0) zeros++;
      if ((x & 0xff00) === 0) zeros++;
      if ((x & 0xff_0000) === 0) zeros++;
      if ((x & ~0xff_ffff) === 0) zeros++;
    }
  }
  return zeros;
}
