import { expect, test } from "bun:test";
import fc from "fast-check";
import { machine, range, testStore } from "./stores.ts";

test("whatever is kept and forgotten, what is left restores, and nothing needless is left", () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("keep" as const),
        from: fc.nat(400),
        length: fc.integer({ min: 1, max: 400 }),
        next: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("prune" as const), forget: fc.nat(99), repack: fc.boolean() }),
    },
  );
  return fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 9 }), async (steps) => {
      using own = testStore();
      const model = new Map<string, number[]>();
      for (const [i, step] of steps.entries()) {
        if (step.kind === "keep") {
          const numbers = range(step.from, step.from + step.length);
          if (step.next && model.size > 0) await own.nextPack();
          await own.keep(`s${i}`, machine(...numbers));
          model.set(`s${i}`, numbers);
          continue;
        }
        if (model.size === 0) continue;
        const names = [...model.keys()];
        const forget = names.filter((_, k) => ((step.forget >> k) & 1) === 1);
        for (const name of forget) model.delete(name);
        const report = await own.prune({ forget, repack: step.repack });
        expect(report.harmed).toEqual([]);
        const needed = new Set([...model.values()].flat());
        const verified = await own.verify({ readData: true });
        expect(verified.clean).toBe(true);
        expect(verified.contents).toBeGreaterThanOrEqual(needed.size);
        // A quarter of a pack may be needless, where it is not worth writing it anew.
        expect(verified.contents).toBeLessThanOrEqual(step.repack ? needed.size : needed.size / 0.74);
      }
      for (const [name, numbers] of model) expect(await own.restores(name, machine(...numbers))).toBe(true);
    }),
    { numRuns: 15 },
  );
}, 60_000);
