import { mix } from "../../../core/index/fuse-layout.ts";

/** Words without a pattern, alike for the same seed. */
export function randomWords(count: number, seed = 1): Uint32Array {
  const words = new Uint32Array(count);
  let state = Math.imul(seed, 0x2c1b_3c6d);
  for (let i = 0; i < count; i++) {
    state = (state + 0x9e37_79b9) | 0;
    words[i] = mix(state ^ seed) + seed;
  }
  return words;
}
