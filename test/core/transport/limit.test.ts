import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { limitRate, tokenBucket } from "../../../core/transport/limit.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { bytesOf, errorOf, readAll, same } from "../../transports/helpers.ts";

describe("tokenBucket", () => {
  test("never lets more go than the rate and one burst", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e9 }),
        fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 1e6 }), pause: fc.nat({ max: 100 }) }), {
          maxLength: 50,
        }),
        (rate, steps) => {
          const wait = tokenBucket(rate, 50);
          let now = 1000;
          const start = now;
          let sent = 0;
          for (const { bytes, pause } of steps) {
            now += pause;
            const ms = wait(bytes, now);
            expect(ms).toBeGreaterThanOrEqual(0);
            now += ms;
            sent += bytes;
            expect(sent).toBeLessThanOrEqual(((now - start + 50) * rate) / 1000 + 1e-3 * sent + 1e-3);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test("a sender that always waits gets its rate", () => {
    const wait = tokenBucket(1000, 50);
    let now = 0;
    for (let i = 0; i < 100; i++) now += wait(100, now);
    // 10,000 bytes at 1,000 a second, less the burst.
    expect(now).toBeCloseTo(10_000 - 50, 6);
  });
});

describe("limitRate", () => {
  test("paces one big write smoothly, and changes no byte", async () => {
    const [near, far] = memoryPair();
    const rate = 2_000_000;
    const limited = limitRate(near, rate);
    const bytes = bytesOf("paced", 600_000);
    const reading = (async () => {
      const pieces: Uint8Array[] = [];
      let longest = 0;
      for await (const piece of far.input) {
        pieces.push(piece);
        longest = Math.max(longest, piece.length);
      }
      return { all: Buffer.concat(pieces), longest };
    })();
    const start = performance.now();
    await limited.write([bytes.subarray(0, 5), bytes.subarray(5, 5), bytes.subarray(5)]);
    await limited.end();
    const ms = performance.now() - start;
    const { all, longest } = await reading;
    expect(same(all, bytes)).toBe(true);
    // 300 ms at this rate, less the burst of 50.
    expect(ms).toBeGreaterThan(240);
    expect(longest).toBeLessThanOrEqual(rate / 100);
  });

  test("leaves the other direction as it is", async () => {
    const [near, far] = memoryPair();
    const limited = limitRate(near, 1);
    const bytes = bytesOf("back", 3_000_000);
    const sending = far.write([bytes]).then(() => far.end());
    expect(same(await readAll(limited.input), bytes)).toBe(true);
    await sending;
  });

  test("destroy ends a long wait with its reason", async () => {
    const [near] = memoryPair();
    const limited = limitRate(near, 10);
    const reason = new Error("enough");
    const writing = errorOf(limited.write([Buffer.alloc(1000)]));
    await limited.destroy(reason);
    expect(await writing).toBe(reason);
  });

  test("refuses what is no rate", () => {
    const [near] = memoryPair();
    for (const rate of [0, -1, Number.NaN]) expect(() => limitRate(near, rate)).toThrow(/above 0/);
  });
});
