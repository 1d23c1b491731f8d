import { PAGE_SIZE } from "./page.ts";

const SAMPLES = 256;
const STRIDE = PAGE_SIZE / SAMPLES;
/**
 * 256 bytes drawn from uniform noise take on 162 values on average (256 * (1 - 1/e)), with a standard deviation below 6.
 * Machine code stays near 100, text near 40.
 */
const NOISE = 146;

const seen = new Uint32Array(256);
let round = 0;

/**
 * Whether a page looks like noise (encrypted or compressed already), judged by how many values a sample of its bytes
 * takes on. Compression chosen by content: Jin et al. (Cluster 2009).
 */
export function looksIncompressible(bytes: Uint8Array, start: number): boolean {
  if (++round === 0xffff_ffff) {
    seen.fill(0);
    round = 1;
  }
  let values = 0;
  for (let i = start + 7; i < start + PAGE_SIZE; i += STRIDE) {
    const value = bytes[i]!;
    if (seen[value] !== round) {
      seen[value] = round;
      values++;
    }
  }
  return values >= NOISE;
}
