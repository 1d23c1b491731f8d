import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { PrefixTable } from "../../../core/index/prefix-table.ts";
import { RecentContents } from "../../../core/store/recent.ts";
import { contents, DIGEST, range } from "./contents.ts";

const LAST = 200;
const all = contents(range(0, LAST));
const words = new Int32Array(all.digests.buffer);
const WORDS = DIGEST / 4;

/** Where a run says that a content is, as `[pack, offset, slot]`. */
function placeIn(table: PrefixTable, number: number): number[] | undefined {
  const found = table.find(all.digests, number * DIGEST);
  if (found < 0) return undefined;
  const offset = table.offsetAt(found);
  return [table.fileAt(found), Math.floor(offset / 65_536), offset % 65_536];
}

describe("recent contents", () => {
  test("are numbered as they come, and lie where their groups are written", async () => {
    const groups = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(groups, fc.array(fc.nat(12)), (sizes, takes) => {
        const recent = new RecentContents();
        const begun = [];
        for (const size of sizes) {
          begun.push(recent.begin());
          for (let slot = 0; slot < size; slot++) recent.add(words, recent.count * WORDS);
        }
        const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
        const group = (number: number) => starts.findLastIndex((start) => start <= number);
        let indexed = 0;
        /** Written in their order, some more each time, and taken up to there. */
        const steps = [...takes.map((take) => Math.min(take, sizes.length)).sort((a, b) => a - b), sizes.length];
        for (const written of steps) {
          for (const [i, one] of begun.slice(0, written).entries()) {
            one.place = { pack: 1 + (i >> 2), offset: i * 100 };
            one.end = i * 100 + 100;
          }
          for (let number = 0; number < recent.count; number++) {
            const at = group(number);
            const place = at < written ? { place: begun[at]!.place, slot: number - starts[at]! } : undefined;
            if (recent.find(words, number * WORDS) !== number) throw new Error(`${number} is not found`);
            expect(recent.place(number)).toEqual(place as ReturnType<typeof recent.place>);
          }
          const to = written === sizes.length ? recent.count : starts[written]!;
          const run = recent.take(to);
          if (to === indexed) expect(run).toBe(undefined);
          else {
            expect(run!.table.count).toBe(to - indexed);
            for (let number = indexed; number < to; number++)
              expect(placeIn(run!.table, number)).toEqual([
                begun[group(number)]!.place!.pack,
                begun[group(number)]!.place!.offset,
                number - starts[group(number)]!,
              ]);
            const ends = new Map<number, number>();
            for (const one of begun.slice(group(indexed), written)) ends.set(one.place!.pack, one.end);
            expect([...run!.covered]).toEqual([...ends]);
          }
          indexed = to;
          expect(recent.pending).toBe(recent.count - indexed);
          expect(recent.take(to)).toBe(undefined);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("are listed without places, also before they are written", () => {
    const recent = new RecentContents();
    expect(recent.table().count).toBe(0);
    recent.begin();
    for (let number = 0; number < 50; number++) recent.add(words, number * WORDS);
    const table = recent.table();
    expect([table.count, table.payloadSize]).toEqual([50, 0]);
    for (let number = 0; number < 60; number++) expect(table.has(all.digests, number * DIGEST)).toBe(number < 50);
    expect([recent.find(words, 50 * WORDS), recent.place(0)]).toEqual([-1, undefined]);
  });
});
