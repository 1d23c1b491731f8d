import { expect, test } from "bun:test";
import fc from "fast-check";
import { NumberSet } from "../../../core/store/number-set.ts";
import { ResidentContents } from "../../../core/store/resident.ts";
import { contents, DIGEST, PAGE, range } from "./contents.ts";

test("a set of numbers has those that were added and not deleted", () => {
  const number = fc.oneof(fc.nat(40), fc.nat(70_000), fc.constantFrom(2 ** 31, 2 ** 32 - 2));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), number), { maxLength: 40 }), (commands) => {
      const set = new NumberSet();
      const model = new Set<number>();
      for (const [adds, number] of commands) {
        // A set takes a bit for each number up to its largest.
        if (adds && number < 2 ** 31) set.add(number);
        if (adds && number < 2 ** 31) model.add(number);
        if (!adds) set.delete(number);
        if (!adds) model.delete(number);
      }
      for (const [, number] of commands) {
        for (const near of [number - 1, number, number + 1, number + 8]) {
          if (near >= 0) expect(set.has(near)).toBe(model.has(near));
        }
      }
    }),
    { numRuns: 200 },
  );
});

test("the first contents that are wanted are held, with their digests, and no longer wanted elsewhere", () => {
  const most = 300;
  const wanted = new NumberSet();
  const held = range(0, 1000).filter((number) => number % 3 !== 1);
  for (const number of held) wanted.add(number);
  const resident = new ResidentContents(wanted, most);
  const of = (first: number, count: number) => contents(range(first, count).map((number) => number % 50));
  for (let first = 0; first < 1000; first += 250) {
    const { pages, digests } = of(first, 250);
    resident.put(first, 250, pages, digests);
    pages.fill(0);
  }
  const pages = new Uint8Array(3 * PAGE);
  const digests = new Uint8Array(3 * DIGEST);
  for (let number = 0; number < 1002; number++) {
    pages.fill(0xee);
    digests.fill(0xee);
    const here = held.indexOf(number) >= 0 && held.indexOf(number) < most;
    expect(resident.read(number, pages, digests, 1)).toBe(here);
    expect(wanted.has(number)).toBe(!here && held.includes(number));
    const right = here
      ? of(number, 1)
      : { pages: new Uint8Array(PAGE).fill(0xee), digests: new Uint8Array(DIGEST).fill(0xee) };
    expect(Buffer.compare(pages.subarray(PAGE, 2 * PAGE), right.pages)).toBe(0);
    expect(Buffer.compare(digests.subarray(DIGEST, 2 * DIGEST), right.digests)).toBe(0);
    expect(pages[0]! + pages[3 * PAGE - 1]! + digests[0]! + digests[3 * DIGEST - 1]!).toBe(4 * 0xee);
  }
});

test("16384 are held, and no more", () => {
  const wanted = new NumberSet();
  for (let number = 0; number < 17_000; number++) wanted.add(number);
  const resident = new ResidentContents(wanted);
  const { pages, digests } = contents(range(0, 1000));
  for (let first = 0; first < 17_000; first += 1000) resident.put(first, 1000, pages, digests);
  const read = (number: number) => resident.read(number, new Uint8Array(PAGE), new Uint8Array(DIGEST), 0);
  expect([0, 16_383, 16_384, 16_999].map(read)).toEqual([true, true, false, false]);
});
