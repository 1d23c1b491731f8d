import { describe, expect, test } from "bun:test";
import { countBytes } from "../../../core/transport/count.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { errorOf, readAll, until } from "../../transports/helpers.ts";

describe("countBytes", () => {
  test("counts what was accepted and what was taken, each way", async () => {
    const [near, far] = memoryPair();
    const [one, two] = [countBytes(near), countBytes(far)];
    await one.write([Buffer.alloc(10), Buffer.alloc(20)]);
    expect([one.bytesOut, two.bytesIn]).toEqual([30, 0]);
    await two.write([Buffer.alloc(7)]);
    await Promise.all([one.end(), two.end()]);
    await Promise.all([readAll(one.input), readAll(two.input)]);
    expect([one.bytesIn, one.bytesOut, two.bytesIn, two.bytesOut]).toEqual([7, 30, 30, 7]);
  });

  test("doesn't count a write that fails", async () => {
    const [near] = memoryPair();
    const counted = countBytes(near);
    const writing = errorOf(counted.write([Buffer.alloc(8 << 20)]));
    await counted.destroy();
    await writing;
    expect(counted.bytesOut).toBe(0);
  });

  test("the array may change once the write has resolved", async () => {
    const [near, far] = memoryPair();
    const counted = countBytes(near);
    const buffers = [Buffer.alloc(5 << 20)];
    const writing = counted.write(buffers);
    void readAll(far.input).catch(() => {});
    await writing;
    buffers.length = 0;
    await until(() => counted.bytesOut === 5 << 20);
    await counted.destroy();
  });
});
