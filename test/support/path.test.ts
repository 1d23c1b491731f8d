import { describe, expect, test } from "bun:test";
import { Path, TcpFlow } from "./path.ts";

test("a path has a rate, and a delay that does not add up", () => {
  const path = new Path(1000, 50);
  expect(path.send(100, 0)).toBe(150);
  expect(path.wait(40)).toBe(60);
  expect(path.send(100, 40)).toBe(250);
  expect(path.send(100, 1000)).toBe(1150);
  expect(path.wait(2000)).toBe(0);
});

describe("a flow", () => {
  const flow = (loss: number, random = () => 0.5) => new TcpFlow({ window: 100_000, loss, roundTrip: 100, random });
  /** Sends what may be sent, once a round trip, and acknowledges it. Returns the windows. */
  const windows = (one: TcpFlow, roundTrips: number) =>
    Array.from({ length: roundTrips }, (_, i) => {
      const { room } = one;
      one.sent(room, i * 100);
      expect(one.room).toBeLessThanOrEqual(room / 2);
      one.acknowledged(room);
      return room;
    });

  test("doubles each round trip, up to its window", () => {
    expect(windows(flow(0), 5)).toEqual([14_600, 29_200, 58_400, 100_000, 100_000]);
  });

  test("is halved once a round trip by losses, then grows by packets", () => {
    const losses = [0, 1, 1, 1];
    const one = flow(0.01, () => losses.shift() ?? 0);
    expect(one.sent(1460, 0)).toBe(0);
    expect(one.sent(1460, 0)).toBe(100);
    expect(one.sent(1460, 50)).toBe(100);
    expect(one.room).toBe(7300 - 3 * 1460);
    one.acknowledged(3 * 1460);
    expect(one.room).toBeGreaterThan(7300);
    expect(one.room).toBeLessThan(7300 + 1460);
    expect(one.sent(1460, 200)).toBe(100);
    expect(one.room).toBeLessThan(3000);
  });

  test("loses more of what has more packets", () => {
    const one = flow(0.01, () => 0.95);
    expect(one.sent(1460, 0)).toBe(0);
    expect(one.sent(14_600, 0)).toBe(100);
  });
});
