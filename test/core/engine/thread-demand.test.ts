import { describe, expect, test } from "bun:test";
import { threadDemand } from "../../../core/engine/thread-demand.ts";

describe("what a thread wants of the time", () => {
  test("is what it ran and what it waited, of the last while", () => {
    let now = 1000;
    let told = "1000000000 500000000 7";
    const demand = threadDemand(
      () => now,
      () => told,
    );
    expect(demand()).toBe(0);
    now += 500;
    told = "1200000000 600000000 9";
    expect(demand()).toBeCloseTo(0.6, 9);
    now += 50;
    told = "1250000000 600000000 9";
    expect(demand()).toBeCloseTo(0.6, 9);
    now += 450;
    told = "9000000000 600000000 9";
    expect(demand()).toBe(1);
  });

  test("is nothing where the system doesn't tell, or tells something else", () => {
    for (const read of [
      () => {
        throw new Error("ENOENT");
      },
      () => "",
      () => "a b",
    ]) {
      let now = 0;
      const demand = threadDemand(() => now, read);
      now += 1000;
      expect(demand()).toBe(0);
    }
  });
});
