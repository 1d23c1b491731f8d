import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SizedPool } from "../../../core/content/sized-pool.ts";

const KIB = 1 << 10;
const MIB = 1 << 20;

describe("a pool of buffers of a few sizes", () => {
  test("gives room for what is asked for, alone in its memory, and never twice", () => {
    const length = fc.integer({ min: 0, max: 3 * MIB });
    fc.assert(
      fc.property(fc.array(fc.tuple(length, fc.boolean()), { maxLength: 40 }), (steps) => {
        const pool = new SizedPool(2 * MIB, 4 * MIB);
        const out: Uint8Array[] = [];
        for (const [length, back] of steps) {
          const buffer = pool.take(length);
          expect(buffer.length).toBeGreaterThanOrEqual(Math.min(length, 2 * MIB));
          expect(buffer.length).toBeLessThanOrEqual(Math.max(64 * KIB, 2 * length));
          expect(buffer.buffer.byteLength).toBe(buffer.length);
          expect(out).not.toContain(buffer);
          out.push(buffer);
          if (back) pool.give(out.shift()!);
        }
      }),
      { numRuns: 30 },
    );
  });

  test("keeps no more than it was told to", () => {
    const pool = new SizedPool(MIB, 3 * MIB);
    const given = Array.from({ length: 5 }, () => pool.take());
    for (const buffer of given) pool.give(buffer);
    const taken = Array.from({ length: 5 }, () => pool.take());
    expect(taken.filter((buffer) => given.includes(buffer)).length).toBe(3);
  });

  test("takes nothing that it could not have given", () => {
    const pool = new SizedPool(MIB, 16 * MIB);
    const strange = new Uint8Array(2 * MIB);
    pool.give(strange);
    pool.give(new Uint8Array(10));
    expect(pool.take(2 * MIB).length).toBe(MIB);
    expect(pool.take(10).length).toBe(64 * KIB);
  });
});
