import { expect, test } from "bun:test";
import { DrainRate } from "../../../core/engine/drain-rate.ts";

test("20 ms of the rate may wait, divided among the streams, and never less than 128 KiB", () => {
  let now = 0;
  const rate = new DrainRate(() => now);
  expect(rate.room(1)).toBe(128 << 10);
  const leave = (bytesPerMs: number, ms: number) => {
    for (const end = now + ms; now < end; ) {
      now += 10;
      rate.left(10 * bytesPerMs);
    }
  };
  leave(100_000, 3000);
  expect(rate.room(1)).toBeCloseTo(20 * 100_000, -2);
  expect(rate.room(4)).toBeCloseTo(5 * 100_000, -2);
  expect(rate.room(1000)).toBe(128 << 10);
  // What was long ago hardly counts.
  leave(50_000, 1500);
  expect(rate.room(1) / (20 * 50_000)).toBeCloseTo(1, 1);
  leave(1, 6000);
  expect(rate.room(1)).toBe(128 << 10);
});
