import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fetchContents, type Located } from "../../../core/store/fetch.ts";
import type { Place } from "../../../core/store/pack-writer.ts";
import { content, contents, PAGE, range } from "./contents.ts";

interface World {
  /** The contents of each group. */
  readonly groups: readonly (readonly number[])[];
  /** Groups that can't be read, and places that are wrong: what is in group 0 is said to lie a slot further. */
  readonly unreadable: readonly number[];
  readonly shifted: boolean;
}

/** Fetches, and returns what was found, the pages, and which contents were looked up. */
async function fetched(world: World, wanted: readonly number[], before: readonly number[] = []) {
  const { digests } = contents(wanted);
  const found = Uint8Array.from(wanted, (_, i) => (before.includes(i) ? 1 : 0));
  const pages = new Uint8Array(wanted.length * PAGE).fill(0xee);
  const lookups: number[] = [];
  const locate = async (i: number): Promise<Located | undefined> => {
    lookups.push(i);
    const pack = world.groups.findIndex((group) => group.includes(wanted[i]!));
    if (pack < 0) return undefined;
    const slot = world.groups[pack]!.indexOf(wanted[i]!) + (world.shifted && pack === 0 ? 1 : 0);
    return { place: { pack, offset: 0 }, slot };
  };
  const groups = world.groups.map((group) => contents(group));
  const useGroup = async ({ pack }: Place, use: (group: (typeof groups)[number]) => void) => {
    if (world.unreadable.includes(pack)) throw new Error("damaged");
    use(groups[pack]!);
  };
  await fetchContents({ digests, count: wanted.length, found, pages }, locate, useGroup);
  return { found: [...found], pages, lookups };
}

const whole = (groups: readonly (readonly number[])[]): World => ({ groups, unreadable: [], shifted: false });

describe("contents are fetched", () => {
  test("wherever they lie, and nothing else is touched", async () => {
    const number = fc.nat(12);
    const wanted = fc.oneof(
      fc.array(number, { maxLength: 12 }),
      fc.tuple(fc.nat(12), fc.nat(12)).map(([from, count]) => range(from, count)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(number, { minLength: 1, maxLength: 6 }), { maxLength: 5 }),
        fc.array(fc.nat(4), { maxLength: 2 }),
        fc.boolean(),
        wanted,
        fc.array(fc.nat(11), { maxLength: 4 }),
        async (groups, unreadable, shifted, numbers, before) => {
          const { found, pages } = await fetched({ groups, unreadable, shifted }, numbers, before);
          for (const [i, wanted] of numbers.entries()) {
            const page = Buffer.from(pages.subarray(i * PAGE, (i + 1) * PAGE));
            const taken = Buffer.compare(page, content(wanted).page) === 0;
            if (before.includes(i) || found[i] === 0) expect(page.every((byte) => byte === 0xee)).toBe(true);
            else expect(taken).toBe(true);
            const at = groups.findIndex((group) => group.includes(wanted));
            const right = at >= 0 && !unreadable.includes(at) && !(shifted && at === 0);
            if (right) expect(found[i]).toBe(1);
            else if (
              !shifted &&
              !before.includes(i) &&
              !groups.some((group, k) => group.includes(wanted) && !unreadable.includes(k))
            )
              expect(found[i]).toBe(0);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test("in two look-ups where they lie in order, in a group or two", async () => {
    const world = whole([range(0, 10), range(10, 10)]);
    for (const wanted of [range(2, 6), range(0, 10), range(5, 10), range(0, 20)]) {
      const { found, lookups } = await fetched(world, wanted);
      expect(found.every((one) => one === 1)).toBe(true);
      expect(lookups).toEqual([0, wanted.length - 1]);
    }
  });

  test("one by one where they don't", async () => {
    const { found, lookups } = await fetched(whole([[0, 2, 4, 6]]), [6, 0, 4, 2]);
    expect(found).toEqual([1, 1, 1, 1]);
    expect(lookups).toEqual([0, 3, 1, 2]);
  });

  test("of digests that are all found already, not at all", async () => {
    const { lookups } = await fetched(whole([[1, 2]]), [1, 2], [0, 1]);
    expect(lookups).toEqual([]);
  });
});
