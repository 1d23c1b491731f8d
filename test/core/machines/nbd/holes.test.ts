import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { findHoles } from "../../../../core/machines/nbd/holes.ts";

const PAGE = 4096;
const KIB = 1024;
const bytes = (length: number) => ({ length, zeros: false });
const hole = (length: number) => ({ length, zeros: true });

describe("holes", () => {
  test("are whole pages of 64 KiB and more, or reach the disk's end", () => {
    expect(findHoles([hole(64 * KIB)], 0, 2 ** 40)).toEqual([{ end: 64 * KIB, zeros: true }]);
    expect(findHoles([hole(64 * KIB - 1)], 0, 2 ** 40)).toEqual([{ end: 64 * KIB - 1, zeros: false }]);
    // A cut page at either end is read.
    expect(findHoles([bytes(100), hole(100 * KIB), bytes(100)], 0, 2 ** 40)).toEqual([
      { end: PAGE, zeros: false },
      { end: 100 * KIB, zeros: true },
      { end: 100 * KIB + 200, zeros: false },
    ]);
    expect(findHoles([bytes(PAGE), hole(513)], 0, PAGE + 513)).toEqual([
      { end: PAGE, zeros: false },
      { end: PAGE + 513, zeros: true },
    ]);
    expect(findHoles([hole(100)], 3, 103)).toEqual([{ end: 103, zeros: false }]);
  });

  test("of any extents: stretches cover them, in turn, and none is missed", () => {
    const length = fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 200 * KIB }));
    const cases = fc.record({
      lengths: fc.array(length, { minLength: 1, maxLength: 12 }),
      first: fc.boolean(),
      start: fc.nat(20_000),
      beyond: fc.constantFrom(0, 1, 100_000),
    });
    fc.assert(
      fc.property(cases, ({ lengths, first, start, beyond }) => {
        const extents = lengths.map((length, i) => ({ length, zeros: (i % 2 === 0) === first }));
        const end = start + lengths.reduce((sum, one) => sum + one, 0);
        const stretches = findHoles(extents, start, end + beyond);
        expect(stretches.at(-1)?.end).toBe(end);
        let at = start;
        const found: [number, number][] = [];
        for (const stretch of stretches) {
          expect(stretch.end).toBeGreaterThan(at);
          if (stretch.zeros) found.push([at, stretch.end]);
          at = stretch.end;
        }
        // What must be found, said in another way: the whole pages of each hole.
        const expected: [number, number][] = [];
        at = start;
        for (const { length, zeros } of extents) {
          const pages: number[] = [];
          for (let page = Math.ceil(at / PAGE); page * PAGE < at + length; page++) {
            if ((page + 1) * PAGE <= at + length || (at + length === end && beyond === 0)) pages.push(page);
          }
          const last = at + length === end && beyond === 0;
          if (zeros && pages.length >= (last ? 1 : 16)) {
            expected.push([pages[0]! * PAGE, last ? end : (pages.at(-1)! + 1) * PAGE]);
          }
          at += length;
        }
        expect(found).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });
});
