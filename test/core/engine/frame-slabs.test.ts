import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { FrameSlabs, type Slab } from "../../../core/engine/frame-slabs.ts";

const SLAB = 1 << 20;

describe("the memory of frames", () => {
  test("holds each, whatever its parts, until it is freed", () => {
    const size = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constantFrom(SLAB - 1, SLAB, SLAB + 1, 300_000));
    const frame = fc.array(size, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(fc.tuple(frame, fc.nat(2)), { maxLength: 12 }), (steps) => {
        const memory = new FrameSlabs();
        const held: { bytes: Buffer; views: Uint8Array[]; slabs: Slab[] }[] = [];
        for (const [sizes, freed] of steps) {
          const parts = sizes.map((length) => randomBytes(length));
          const views: Uint8Array[] = [];
          const slabs = memory.put(parts, views);
          held.push({ bytes: Buffer.concat(parts), views, slabs });
          for (let i = 0; i < freed && held.length > 0; i++) memory.free(held.shift()!.slabs);
          for (const { bytes, views } of held) expect(Buffer.compare(Buffer.concat(views), bytes)).toBe(0);
        }
      }),
      { numRuns: 20 },
    );
  });

  test("is kept for later, 4 MiB of it beside what is being filled", () => {
    const memory = new FrameSlabs();
    const fill = () => {
      const slabs = Array.from({ length: 9 }, () => memory.put([Buffer.alloc(SLAB)], []));
      for (const some of slabs) memory.free(some);
      return new Set(slabs.flat());
    };
    const first = fill();
    expect(first.size).toBe(9);
    expect([...fill()].filter((slab) => first.has(slab))).toHaveLength(5);
  });

  test("is used again: as many slabs as are needed at once", () => {
    const memory = new FrameSlabs();
    const seen = new Set<Slab>();
    const held: Slab[][] = [];
    for (let i = 0; i < 100; i++) {
      held.push(memory.put([randomBytes(400_000)], []));
      for (const slab of held.at(-1)!) seen.add(slab);
      if (held.length > 3) memory.free(held.shift()!);
    }
    expect(seen.size).toBeLessThanOrEqual(4);
  });
});
