import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ShrinkerError } from "../../../core/errors.ts";
import { ContentSet } from "../../../core/site/content-set.ts";
import { LiveContents } from "../../../core/store/live-contents.ts";
import { freeNumbers } from "../../../core/store/pack-numbers.ts";
import { digest } from "./probe.ts";
import { range } from "./stores.ts";

test("of live contents a pack that turns out unreadable keeps none", () => {
  const set = new ContentSet();
  for (const number of range(0, 4)) set.add(digest(number), 0);
  const live = new LiveContents(set.table());
  const numbers = range(0, 4).map((number) => live.find(digest(number), 0));
  expect([...numbers].sort()).toEqual(range(0, 4));
  expect(live.find(digest(4), 0)).toBe(-1);
  for (const [i, number] of numbers.entries()) live.keep(number, i < 2 ? 7 : 65_535);
  live.release(7);
  expect(numbers.map((number) => live.packOf(number))).toEqual([0, 0, 65_535, 65_535]);
  expect(live.lacking(Buffer.concat(range(0, 6).map(digest)), 32)).toBe(4);
});

describe("numbers for new packs", () => {
  test("are in a row, free, and behind all others while there are such", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 65_535 }), { maxLength: 50 }),
        fc.nat(3000),
        (taken, count) => {
          const first = freeNumbers(taken, count);
          expect(first).toBeGreaterThanOrEqual(1);
          expect(first + count - 1).toBeLessThanOrEqual(65_535);
          expect(taken.filter((number) => number >= first && number < first + count)).toEqual([]);
          const last = Math.max(0, ...taken);
          if (last + count <= 65_535) expect(first).toBe(last + 1);
        },
      ),
    );
  });

  test("run out", () => {
    expect(freeNumbers([1, 2, 5, 65_535], 2)).toBe(3);
    expect(freeNumbers([1, 2, 5, 65_535], 3)).toBe(6);
    expect(() => freeNumbers(range(1, 65_536), 1)).toThrow(ShrinkerError);
    expect(freeNumbers([], 65_535)).toBe(1);
    expect(() => freeNumbers([30_000], 40_000)).toThrow("no numbers");
  });
});
