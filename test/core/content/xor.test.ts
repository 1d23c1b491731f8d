import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { PAGE_SIZE, PAGE_WORDS } from "../../../core/content/page.ts";
import { xorPages } from "../../../core/content/xor.ts";

/** A page with bytes at places; every other byte is zero. */
const sparse = fc.array(fc.tuple(fc.nat(PAGE_SIZE - 1), fc.nat(255)), { maxLength: 200 }).map((bytes) => {
  const page = new Int32Array(PAGE_WORDS);
  const view = new Uint8Array(page.buffer);
  for (const [at, value] of bytes) view[at] = value;
  return page;
});

function bytesOf(words: Int32Array, at = 0): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset + at * 4, PAGE_SIZE);
}

describe("XOR of pages", () => {
  test("is that of each byte, and counts those that are zero", () => {
    fc.assert(
      fc.property(sparse, sparse, (a, b) => {
        const target = new Int32Array(PAGE_WORDS);
        const zeros = xorPages(a, 0, b, 0, target, 0);
        const expected = bytesOf(a).map((byte, i) => byte ^ bytesOf(b)[i]!);
        expect(Buffer.compare(bytesOf(target), expected)).toBe(0);
        expect(zeros).toBe(expected.filter((byte) => byte === 0).length);
      }),
      { numRuns: 30 },
    );
  });

  test("gives a page back from the other and their difference, also in place", () => {
    fc.assert(
      fc.property(sparse, sparse, (a, b) => {
        const words = new Int32Array(3 * PAGE_WORDS);
        words.set(a, 0);
        words.set(b, PAGE_WORDS);
        xorPages(words, 0, words, PAGE_WORDS, words, 2 * PAGE_WORDS);
        xorPages(words, 0, words, 2 * PAGE_WORDS, words, 2 * PAGE_WORDS);
        expect(Buffer.compare(bytesOf(words, 2 * PAGE_WORDS), bytesOf(b))).toBe(0);
        expect(Buffer.compare(bytesOf(words, 0), bytesOf(a))).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test("a page and itself differ nowhere, all ones from zeros everywhere", () => {
    const ones = new Int32Array(PAGE_WORDS).fill(-1);
    const target = new Int32Array(PAGE_WORDS);
    expect(xorPages(ones, 0, ones, 0, target, 0)).toBe(PAGE_SIZE);
    expect(xorPages(ones, 0, new Int32Array(PAGE_WORDS), 0, target, 0)).toBe(0);
  });
});
