import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DigestTable, MAX_CONTENTS } from "../../../core/index/digest-table.ts";

const WORDS = 8;
const DIGEST_BYTES = 32;
/** What tables begin with, in bytes: the fewest slots, of 4 bytes. */
const MIN_BYTES = 4 * 4096;

/** A digest that stands for `n`, as good as random; alike for the same `n`. */
function digest(n: number, words = new Int32Array(WORDS), at = 0): Int32Array {
  let state = (n + 1) * 2_654_435_761;
  for (let i = 0; i < WORDS; i++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9 + n;
    state = Math.imul(state ^ (state >>> 12), 0x297a_2d39);
    words[at + i] = state ^ (state >>> 15);
  }
  return words;
}

/** A digest whose words count how often they are looked at, to count probes where time would only hint at them. */
function counted(words: Int32Array): { words: Int32Array; reads: () => number } {
  let reads = 0;
  const proxy = new Proxy(words, {
    get(target, key) {
      reads++;
      return target[key as unknown as number];
    },
  });
  return { words: proxy, reads: () => reads };
}

function addMany(table: DigestTable, from: number, to: number, each: () => void = () => {}): void {
  const words = new Int32Array(WORDS);
  for (let n = from; n < to; n++) {
    table.add(digest(n, words), 0);
    each();
  }
}

describe("digest table", () => {
  test("finds, reads and forgets as a map does", () => {
    const command = fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({ kind: fc.constant("add" as const), count: fc.integer({ min: 1, max: 3000 }) }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant("forget" as const),
          share: fc.double({ min: 0, max: 1.2, noNaN: true }),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant("again" as const), count: fc.integer({ min: 1, max: 500 }) }),
      },
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 25 }), fc.nat(1_000_000), (commands, seed) => {
        const table = new DigestTable();
        /** Numbers by what their digest stands for. */
        const model = new Map<number, number>();
        const meant: number[] = [];
        let low = 0;
        const put = (n: number) => {
          // Not `expect`: a million of those take most of a minute on Deno.
          if (table.find(digest(n), 0) !== -1) throw new Error(`found ${n}, which is not there`);
          if (table.add(digest(n), 0) !== meant.length) throw new Error(`${n} took a wrong number`);
          model.set(n, meant.length);
          meant.push(n);
        };
        for (const { kind, ...of } of commands) {
          if (kind === "add") for (let i = 0; i < (of as { count: number }).count; i++) put(seed + meant.length);
          else if (kind === "forget") {
            const to = Math.floor((of as { share: number }).share * meant.length);
            table.forget(to);
            for (; low < Math.min(to, meant.length); low++)
              if (model.get(meant[low]!) === low) model.delete(meant[low]!);
          } else {
            // What was forgotten may come again, under a new number.
            for (const n of meant.slice(0, (of as { count: number }).count)) if (!model.has(n)) put(n);
          }
          expect([table.low, table.next]).toEqual([low, meant.length]);
        }
        const step = Math.max(1, Math.floor(meant.length / 2000));
        for (let number = 0; number < meant.length; number += step) {
          const n = meant[number]!;
          if (table.find(digest(n), 0) !== (model.get(n) ?? -1)) throw new Error(`${n} is found wrongly`);
          if (number < low) continue;
          const words = new Int32Array(WORDS + 3);
          table.read(number, words, 2);
          if (words.join() !== [0, 0, ...digest(n), 0].join()) throw new Error(`${n} is read wrongly`);
        }
        expect(table.find(digest(seed - 1), 0)).toBe(-1);
      }),
      { numRuns: 40 },
    );
  });

  test("looks at all 256 bits", () => {
    const table = new DigestTable();
    const words = digest(1);
    table.add(words, 0);
    for (let bit = 0; bit < 256; bit++) {
      const other = words.slice();
      other[bit >> 5]! ^= 1 << (bit & 31);
      expect(table.find(other, 0)).toBe(-1);
    }
    expect(table.find(words, 0)).toBe(0);
  });

  test("takes digests from anywhere in an array", () => {
    const table = new DigestTable();
    const words = new Int32Array(3 * WORDS);
    for (let i = 0; i < 3; i++) digest(i, words, i * WORDS);
    for (let i = 0; i < 3; i++) expect(table.add(words, i * WORDS)).toBe(i);
    for (let i = 0; i < 3; i++) expect(table.find(words, i * WORDS)).toBe(i);
    expect(table.find(words, 1)).toBe(-1);
  });

  test("a digest of zeros is one like any other", () => {
    const table = new DigestTable();
    expect(table.find(new Int32Array(WORDS), 0)).toBe(-1);
    table.add(new Int32Array(WORDS), 0);
    expect(table.find(new Int32Array(WORDS), 0)).toBe(0);
  });

  test("holds a million entries in at most 48 bytes each, also while it grows", () => {
    const table = new DigestTable();
    let worst = 0;
    addMany(table, 0, 1_000_000, () => {
      // Digests are kept in blocks of 4096, of which the last is mostly empty: less than 0.4 bytes an entry by now.
      if (table.next >= 400_000) worst = Math.max(worst, table.bytes / table.next);
    });
    expect(worst).toBeLessThanOrEqual(48);
    // It must have been looked at while it grew: between two growths it is smaller.
    expect(worst).toBeGreaterThan(45);
    expect(table.find(digest(999_999), 0)).toBe(999_999);
    expect(table.find(digest(0), 0)).toBe(0);
  }, 30_000);

  test("grows a little at each addition", () => {
    const table = new DigestTable();
    const slots = () => (table.bytes - Math.ceil((table.next - table.low) / 4096) * 4096 * DIGEST_BYTES) / 4;
    let during = 0;
    let grown = 0;
    let before = slots();
    for (let n = 0; n < 300_000; n++) {
      addMany(table, n, n + 1);
      const now = slots();
      if (now > before) {
        grown++;
        during = 0;
      } else if (now < before) {
        // The old slots, a third of all, were given back: eight for each addition since, the growing one not counted.
        expect(before - now).toBeLessThanOrEqual(8 * during);
        expect(before - now).toBeGreaterThan(8 * (during - 1));
      }
      during++;
      before = now;
    }
    expect(grown).toBeGreaterThanOrEqual(6);
  });

  test("finds everything in the middle of growing", () => {
    const table = new DigestTable();
    addMany(table, 0, 3300);
    const words = new Int32Array(WORDS);
    const found = Array.from({ length: 3300 }, (_, n) => table.find(digest(n, words), 0));
    expect(found.every((number, n) => number === n)).toBe(true);
  });

  test("shrinks when most is forgotten, and goes on", () => {
    const table = new DigestTable();
    addMany(table, 0, 400_000);
    const full = table.bytes;
    // What remains is far less than what is added before the old slots are swept.
    table.forget(399_900);
    for (let n = 400_000; n < 1_200_000; n++) {
      if (n % 1000 === 0) table.forget(n - 100);
      addMany(table, n, n + 1);
    }
    expect(table.bytes).toBeLessThan(full / 20);
    expect(table.find(digest(1_199_999), 0)).toBe(1_199_999);
    expect(table.find(digest(1_199_899), 0)).toBe(1_199_899);
    expect(table.find(digest(399_999), 0)).toBe(-1);
  }, 30_000);

  test("forgetting gives the digests' memory back, and everything may be forgotten", () => {
    const table = new DigestTable();
    addMany(table, 0, 100_000);
    const full = table.bytes;
    table.forget(1_000_000);
    expect([table.low, table.next]).toEqual([100_000, 100_000]);
    expect(full - table.bytes).toBeGreaterThanOrEqual((100_000 - 4096) * DIGEST_BYTES);
    expect(table.find(digest(5), 0)).toBe(-1);
    // Backwards is nothing.
    table.forget(3);
    expect(table.low).toBe(100_000);
    addMany(table, 0, 10);
    expect(table.find(digest(5), 0)).toBe(100_005);
  });

  test("digests that share their beginning stay cheap to find", () => {
    for (const shared of [1, 2, 3]) {
      const table = new DigestTable();
      const words = new Int32Array(WORDS);
      const make = (n: number) => digest(n, words).fill(0x1234_5678, 0, shared);
      const count = 3000;
      for (let n = 0; n < count; n++) table.add(make(n), 0);
      let reads = 0;
      for (let n = 0; n < count; n++) {
        const one = counted(make(n));
        if (table.find(one.words, 0) !== n) throw new Error(`${n} is found wrongly`);
        reads += one.reads();
      }
      // Twelve reads are the hash and the comparison; each further probe is one that hit another digest's slot.
      expect(reads / count).toBeLessThan(40);
    }
  });

  test("where digests land differs from table to table", () => {
    // Of digests that happen to be probed often in one table, most are found at once in another.
    const probes = () => {
      const table = new DigestTable();
      addMany(table, 0, 3000);
      return Array.from({ length: 3000 }, (_, n) => {
        const one = counted(digest(n));
        table.find(one.words, 0);
        return one.reads();
      });
    };
    const [a, b] = [probes(), probes()];
    expect(a.some((reads, n) => reads !== b[n])).toBe(true);
  });

  test("has 2^32 - 2 numbers, or as many as it is told", () => {
    expect(MAX_CONTENTS).toBe(2 ** 32 - 2);
    const table = new DigestTable(3);
    addMany(table, 0, 3);
    table.forget(3);
    expect(() => table.add(digest(3), 0)).toThrow(RangeError);
    expect(table.next).toBe(3);
  });

  test("is empty at first, and small", () => {
    const table = new DigestTable();
    expect([table.low, table.next, table.bytes]).toEqual([0, 0, MIN_BYTES]);
    expect(table.find(digest(0), 0)).toBe(-1);
  });
});
