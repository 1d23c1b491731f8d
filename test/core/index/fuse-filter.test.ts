import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ShrinkerError } from "../../../core/errors.ts";
import { buildParts } from "../../../core/index/fuse-build.ts";
import { buildFuseFilter, decodeFuseFilter } from "../../../core/index/fuse-filter.ts";
import { layoutOf, mix, slotsOf } from "../../../core/index/fuse-layout.ts";
import { encoded, hits, signed, thrown } from "./filters.ts";
import { randomWords } from "./words.ts";

const SEED = [11, 22] as const;

/** What a guest does that knows the seed: the keys whose hashes these are. */
function keysOf(hashes: readonly (readonly [number, number])[]): Uint32Array {
  return Uint32Array.from(
    hashes.flatMap(([high, low]) => {
      const middle = low ^ mix(high);
      const word0 = high ^ mix(middle ^ SEED[1]);
      return [word0, middle ^ mix(word0 ^ SEED[0])];
    }),
  );
}

describe("fuse filter", () => {
  test("has every key that it was built from, whatever they are", () => {
    const word = fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 3 }));
    fc.assert(
      fc.property(fc.array(fc.tuple(word, word), { maxLength: 300 }), fc.constantFrom(8, 16), (pairs, bits) => {
        const keys = Uint32Array.from(pairs.flat());
        const before = keys.slice();
        const filter = buildFuseFilter(keys, bits as 8 | 16);
        expect(hits(filter, keys)).toBe(pairs.length);
        expect(filter.count).toBe(new Set(pairs.map((pair) => pair.join())).size);
        expect(Buffer.compare(new Uint8Array(keys.buffer), new Uint8Array(before.buffer))).toBe(0);
        expect(encoded(buildFuseFilter(keys, bits as 8 | 16)).equals(encoded(filter))).toBe(true);
      }),
    );
  });

  test("is built for every number of keys up to 2000", () => {
    const all = randomWords(4000, 3);
    for (let n = 0; n <= 2000; n++) {
      const keys = all.subarray(0, 2 * n);
      const filter = buildFuseFilter(keys, n % 2 ? 8 : 16);
      if (filter.count !== n || hits(filter, keys) !== n) throw new Error(`the filter of ${n} keys is wrong`);
    }
  }, 60_000);

  test.each([
    [8, 9.6, 200_000 / 400, 200_000 / 160],
    [16, 19.2, 0, 200_000 / 20_000],
  ] as const)(
    "%d bits: 100000 keys take at most %d bits each, and others are rarely taken for them",
    (bits, most, low, high) => {
      const keys = randomWords(200_000, 5);
      const filter = buildFuseFilter(keys, bits);
      expect(hits(filter, keys)).toBe(100_000);
      expect((filter.byteLength * 8) / 100_000).toBeLessThan(most);
      const others = hits(filter, randomWords(400_000, 6));
      expect(others).toBeGreaterThanOrEqual(low);
      expect(others).toBeLessThan(high);
    },
  );

  test("false positives stay as rare in a small filter, and for keys that differ in one word", () => {
    const keys = randomWords(2000, 7);
    const filter = buildFuseFilter(keys, 8);
    for (const word of [0, 1]) {
      const others = new Uint32Array(200_000);
      const noise = randomWords(100_000, 8);
      for (let i = 0; i < 100_000; i++) {
        others[2 * i + word] = keys[(2 * i + word) % keys.length]!;
        others[2 * i + 1 - word] = noise[i]!;
      }
      expect(hits(filter, others)).toBeGreaterThan(100_000 / 400);
      expect(hits(filter, others)).toBeLessThan(100_000 / 160);
    }
  });

  test("ten million keys fit into 16 MiB, by the layout alone", () => {
    expect(slotsOf(layoutOf(10_000_000))).toBeLessThan(16 * 1024 * 1024 - 32);
    expect(slotsOf(layoutOf(10_000_000)) / 10_000_000).toBeLessThan(1.13);
    // And every layout is one that a reader takes, with slots enough to succeed: 1.1 a key, or nearly so.
    for (let n = 1; n < 2 ** 28; n += 1 + Math.floor(n / 500)) {
      const slots = slotsOf(layoutOf(n));
      if (slots < 1.12 * n || slots > 4 * n + 64) throw new Error(`${slots} slots for ${n} keys`);
    }
  });

  test("a filter of nothing has nothing", () => {
    const filter = buildFuseFilter(new Uint32Array(0), 8);
    expect([filter.count, filter.byteLength]).toEqual([0, 32]);
    const read = decodeFuseFilter(encoded(filter));
    for (const one of [filter, read]) expect(hits(one, randomWords(20_000))).toBe(0);
  });

  test("repeated keys count once, however many and however they lie", () => {
    const some = randomWords(4, 9);
    const keys = new Uint32Array(400_000);
    for (let i = 0; i < keys.length; i++) keys[i] = some[i % 4]!;
    expect(buildFuseFilter(keys, 8).count).toBe(2);
    keys.set(randomWords(200_000, 10), 100_000);
    const filter = buildFuseFilter(keys, 8);
    expect(filter.count).toBe(100_002);
    expect(hits(filter, keys)).toBe(200_000);
    expect(filter.byteLength).toBeLessThan(100_002 * 1.2);
  });

  test("takes digests from anywhere in an array, and no more of them than two words", () => {
    const words = signed(randomWords(24, 11));
    const filter = buildFuseFilter(Uint32Array.of(words[8]!, words[9]!), 16);
    expect([0, 7, 8, 9, 16].map((at) => filter.has(words, at))).toEqual([false, false, true, false, false]);
  });

  test("keys that are no pairs are refused", () => {
    expect(() => buildFuseFilter(new Uint32Array(3), 8)).toThrow(RangeError);
  });
});

describe("seeds of a fuse filter", () => {
  const distinct = (n: number) => randomWords(2 * n, 12);

  test("another seed is tried where one fails, in a fixed order", () => {
    const keys = distinct(8);
    const failing: number[] = [];
    for (let seed = 0; failing.length < 5; seed++) {
      if (thrown(() => buildParts(keys, 8, () => [seed, seed]))) failing.push(seed);
    }
    const tried: number[] = [];
    const parts = buildParts(keys, 8, (attempt) => {
      tried.push(attempt);
      const seed = failing[attempt] ?? 1_000_000 + attempt;
      return [seed, seed];
    });
    expect(tried.length).toBeGreaterThan(5);
    expect(tried).toEqual([...tried.keys()]);
    expect(parts.seed0).toBe(1_000_000 + tried.at(-1)!);
  });

  const high = 0x1234_5678;
  const crafted: [string, Uint32Array][] = [
    ["share all their positions", keysOf(Array.from({ length: 2 }, (_, i) => [high, i << 13]))],
    ["overflow a counter", keysOf(Array.from({ length: 500 }, (_, i) => [high, i << 5]))],
    ["begin alike", keysOf(Array.from({ length: 100_000 }, (_, i) => [i, i * 77_777]))],
  ];
  test.each(crafted)("keys that are made for a seed so that they %s fail with it alone", (_, bad) => {
    const keys = new Uint32Array(bad.length + 400);
    keys.set(bad);
    keys.set(distinct(200), bad.length);
    const seed0 = (attempt: number) => (attempt < 63 ? SEED : ([5, 6] as const));
    const error = thrown(() => buildParts(keys, 8, () => SEED));
    expect(error).toBeInstanceOf(ShrinkerError);
    expect((error as ShrinkerError).code).toBe("input");
    expect((error as ShrinkerError).message).toContain("64 tries");
    expect(buildParts(keys, 8, seed0).count).toBe(keys.length / 2);
    expect(hits(buildFuseFilter(keys, 8), keys)).toBe(keys.length / 2);
  });

  test("the seed depends on every key, and not on their order", () => {
    const keys = distinct(100);
    const seedOf = (of: Uint32Array) => encoded(buildFuseFilter(of, 8)).toString("hex", 20, 28);
    const turned = keys.slice();
    for (let i = 0; i < keys.length; i += 2) turned.set(keys.subarray(i, i + 2), keys.length - 2 - i);
    expect(seedOf(turned)).toBe(seedOf(keys));
    const seeds = new Set<string>();
    for (let bit = 0; bit < 64; bit++) {
      const other = keys.slice();
      other[100 + (bit >> 5)]! ^= 1 << (bit & 31);
      seeds.add(seedOf(other));
    }
    expect(seeds.size).toBe(64);
  });
});
