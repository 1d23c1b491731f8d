import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CompressionSample } from "../../../core/site/sample.ts";
import type { ColumnEncoder } from "../../../core/wire/codec/codec.ts";

/** An encoder that takes a unit's first byte, in percent, for what becomes of it; counts what it is given. */
function percent(): ColumnEncoder & { given: number } {
  const encoder = {
    given: 0,
    async encode(bytes: Uint8Array) {
      encoder.given++;
      return [new Uint8Array(1), new Uint8Array(Math.round((bytes.length * bytes[0]!) / 100) - 1)];
    },
    close() {},
  };
  return encoder;
}

const UNIT = 1000;

async function sample(percents: readonly number[], lengths: readonly number[] = []) {
  const encoder = percent();
  const sample = new CompressionSample(encoder);
  for (const [i, share] of percents.entries()) await sample.add(new Uint8Array(lengths[i] ?? UNIT).fill(share));
  return { ...sample.estimate(), given: encoder.given };
}

describe("a sample of compression", () => {
  test("of at most 64 units is all of them, without error", async () => {
    const units = fc.array(fc.tuple(fc.integer({ min: 10, max: 100 }), fc.integer({ min: 100, max: 5000 })), {
      maxLength: 64,
    });
    await fc.assert(
      fc.asyncProperty(units, async (list) => {
        const lengths = list.map(([, length]) => length);
        const total = lengths.reduce((sum, length) => sum + length, 0);
        const encoded = list.reduce((sum, [share, length]) => sum + Math.round((length * share) / 100), 0);
        const found = await sample(
          list.map(([share]) => share),
          lengths,
        );
        expect(found).toMatchObject({ units: list.length, sampled: total, total, error: 0 });
        expect(found.ratio * total).toBeCloseTo(encoded, 6);
      }),
    );
  });

  test("of more has 33 to 64 units, evenly spread, and encodes few that it drops", async () => {
    for (const count of [65, 66, 127, 128, 129, 1000, 5000]) {
      // A staircase: a sample of only its beginning or end would be far off.
      const found = await sample(Array.from({ length: count }, (_, i) => 10 + Math.floor((80 * i) / count)));
      expect(found.units).toBeGreaterThan(32);
      expect(found.units).toBeLessThanOrEqual(64);
      expect(found.total).toBe(count * UNIT);
      expect(Math.abs(found.ratio - 0.495)).toBeLessThan(0.02);
      expect(found.given).toBeLessThanOrEqual(64 + 33 * Math.ceil(Math.log2(count / 64)));
    }
  });

  test("of units that are all alike has no error, and of others one that its misses keep to", async () => {
    expect(await sample(new Array(500).fill(30))).toMatchObject({ ratio: 0.3, error: 0 });
    let within = 0;
    for (let seed = 1; seed <= 60; seed++) {
      let state = seed;
      const percents = Array.from({ length: 700 }, () => {
        state = Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9;
        return 10 + ((state >>> 8) % 90);
      });
      const truth = percents.reduce((sum, share) => sum + share, 0) / percents.length / 100;
      const { ratio, error } = await sample(percents);
      expect(error).toBeGreaterThan(0.02);
      expect(error).toBeLessThan(0.06);
      if (Math.abs(ratio - truth) <= 2 * error) within++;
    }
    // 95 % are expected to be.
    expect(within).toBeGreaterThan(50);
  });

  test("of nothing is nothing", async () => {
    expect(await sample([])).toEqual({ units: 0, sampled: 0, total: 0, ratio: 0, error: 0, given: 0 });
    expect(await sample([50], [0])).toMatchObject({ units: 0, given: 0 });
  });
});
