import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import type { SiteIndex } from "../../../core/index/site-index.ts";

/** The digests of these contents, back to back, `offset` bytes into their buffer. */
export function digestsOf(contents: readonly number[], offset = 0): Uint8Array {
  const bytes = new Uint8Array(offset + contents.length * 32);
  contents.forEach((content, i) => {
    bytes.set(createHash("sha256").update(String(content)).digest(), offset + i * 32);
  });
  return bytes.subarray(offset);
}

/** What every site index has to do. It may forget, but the ones that are tested have room for all of this. */
export function siteIndexCompliance(name: string, make: () => Promise<SiteIndex>): void {
  async function withIndex(work: (index: SiteIndex) => Promise<void>): Promise<void> {
    const index = await make();
    try {
      await work(index);
    } finally {
      await index.close();
    }
  }
  async function held(index: SiteIndex, contents: readonly number[], offset = 0): Promise<number[]> {
    // Whatever it held before, the answer is there afterwards.
    const answer = new Uint8Array(contents.length).fill(9);
    await index.lookup(digestsOf(contents, offset), contents.length, answer);
    return Array.from(answer);
  }

  describe(`${name} as a site index`, () => {
    test("holds nothing at first", () =>
      withIndex(async (index) => {
        expect(await held(index, [1, 2, 3])).toEqual([0, 0, 0]);
      }));

    test("holds what it was told, and nothing else", () =>
      withIndex(async (index) => {
        await index.insert(digestsOf([1, 2, 3]), 3);
        expect(await held(index, [3, 4, 1, 1, 5, 2])).toEqual([1, 0, 1, 1, 0, 1]);
      }));

    test("may be told the same again, also in one call", () =>
      withIndex(async (index) => {
        await index.insert(digestsOf([1, 1, 2, 1]), 4);
        await index.insert(digestsOf([2, 3]), 2);
        expect(await held(index, [1, 2, 3, 4])).toEqual([1, 1, 1, 0]);
      }));

    test("takes no more than it is told to", () =>
      withIndex(async (index) => {
        await index.insert(digestsOf([1, 2, 3]), 2);
        const answer = Uint8Array.of(9, 9, 9);
        await index.lookup(digestsOf([1, 2, 3]), 2, answer);
        expect(Array.from(answer)).toEqual([1, 1, 9]);
        expect(await held(index, [3])).toEqual([0]);
      }));

    test("nothing may be asked and told", () =>
      withIndex(async (index) => {
        await index.insert(new Uint8Array(0), 0);
        await index.lookup(new Uint8Array(0), 0, new Uint8Array(0));
        expect(await held(index, [1])).toEqual([0]);
      }));

    test("digests may lie anywhere in their buffer, and be overwritten afterwards", () =>
      withIndex(async (index) => {
        for (const offset of [1, 2, 3, 4, 31]) {
          const digests = digestsOf([offset, 100 + offset], offset);
          await index.insert(digests, 2);
          digests.fill(0);
          expect(await held(index, [offset, 100 + offset, 200 + offset], 4 - (offset & 3))).toEqual([1, 1, 0]);
        }
      }));

    test("tells digests apart that differ in one bit", () =>
      withIndex(async (index) => {
        const digest = digestsOf([1]);
        await index.insert(digest, 1);
        const others = new Uint8Array(256 * 32);
        for (let bit = 0; bit < 256; bit++) {
          others.set(digest, bit * 32);
          others[bit * 32 + (bit >> 3)]! ^= 1 << (bit & 7);
        }
        const answer = new Uint8Array(256).fill(9);
        await index.lookup(others, 256, answer);
        expect(answer.every((one) => one === 0)).toBe(true);
      }));

    test("calls may overlap", () =>
      withIndex(async (index) => {
        const parts = Array.from({ length: 8 }, (_, i) => Array.from({ length: 50 }, (_, j) => i * 40 + j));
        await Promise.all(parts.map((part) => index.insert(digestsOf(part), part.length)));
        const answers = await Promise.all(parts.map((part) => held(index, part)));
        expect(answers.flat().every((one) => one === 1)).toBe(true);
      }));

    test("answers as a set would", () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(fc.boolean(), fc.array(fc.nat(60), { maxLength: 30 })), { maxLength: 20 }),
          (calls) =>
            withIndex(async (index) => {
              const set = new Set<number>();
              for (const [insert, contents] of calls) {
                if (insert) {
                  await index.insert(digestsOf(contents), contents.length);
                  for (const content of contents) set.add(content);
                } else
                  expect(await held(index, contents)).toEqual(contents.map((content) => (set.has(content) ? 1 : 0)));
              }
            }),
        ),
        { numRuns: 25 },
      ));
  });
}
