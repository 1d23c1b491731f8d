import { PAGE_WORDS } from "../../content/page.ts";

/**
 * What the pages of a fake guest hold: a function of a key, so that any page can be made, and checked, at any time and in
 * any process. Words are written in the processor's order; all that the runtimes run on are little-endian.
 */

/** Four letters each. The first ones are used most; runs of them make the phrases. */
const FRAGMENTS = makeFragments(1024);
/** Words of a phrase. */
const PHRASE = 4;

/** Stirs numbers into 32 bits, by the finalizer of MurmurHash3. */
export function mixKey(seed: number, page: number, version: number): number {
  return stir(stir(stir(0, seed), page), version);
}

function stir(hash: number, value: number): number {
  let stirred = Math.imul(hash ^ value, 0x85ebca6b) + 0x9e3779b9;
  stirred = Math.imul(stirred ^ (stirred >>> 13), 0xc2b2ae35);
  return stirred ^ (stirred >>> 16);
}

/** A number for a name (FNV-1a). */
export function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash;
}

/** Fills a page with text of a limited vocabulary, which compresses about as well as guests' memory. Never zeros. */
export function fillText(page: Uint32Array, key: number): void {
  let x = key | 1;
  for (let i = 0; i < PAGE_WORDS; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    const first = x & (x >>> 10) & 1023;
    page[i] = FRAGMENTS[first]!;
    if (x < 0) continue;
    for (let more = 1; more < PHRASE && i + 1 < PAGE_WORDS; more++) page[++i] = FRAGMENTS[(first + more) & 1023]!;
  }
}

/** Fills a page with bytes that no codec makes smaller. */
export function fillRandom(page: Uint32Array, key: number): void {
  let x = key | 1;
  for (let i = 0; i < PAGE_WORDS; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    page[i] = x;
  }
}

function makeFragments(count: number): Uint32Array {
  const letters = "etaoinshrdlucmfwypvbgk  ";
  const fragments = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    let word = 0;
    for (let at = 0; at < 4; at++) {
      const letter = letters.charCodeAt((mixKey(at, i, 7) >>> 0) % letters.length);
      word = (word << 8) | letter;
    }
    fragments[i] = word;
  }
  return fragments;
}
