import { describe, expect, test } from "bun:test";
import { Flow } from "../../../core/engine/flow.ts";

const KIB = 1 << 10;
const FRAME = 200 * KIB;

/** A link of `rate` bytes a millisecond whose round trip takes `delay` ms, at a clock of its own. */
function simulate(rate: number, delay: number) {
  let now = 1000;
  let sequence = 0;
  let free = 0;
  const link = { rate, delay };
  const acknowledgements: { at: number; sequence: number }[] = [];
  const flow = new Flow(() => now);
  let sent = 0;
  let most = 0;
  return {
    flow,
    link,
    sent: () => sent,
    /** The most that was on the way since it was last asked for. */
    most() {
      const value = most;
      most = 0;
      return value;
    },
    /** Sends frames whenever there is room, for so many milliseconds; `idle` sends none. */
    run(ms: number, idle = false): void {
      for (const end = now + ms; now < end; now++) {
        while (acknowledgements.length > 0 && acknowledgements[0]!.at <= now) {
          flow.acknowledged(acknowledgements.shift()!.sequence);
        }
        while (!idle && flow.inFlight < flow.limit) {
          free = Math.max(free, now) + FRAME / link.rate;
          acknowledgements.push({ at: free + link.delay, sequence });
          flow.sent(sequence++, FRAME);
          sent += FRAME;
          most = Math.max(most, flow.inFlight);
        }
      }
    },
  };
}

describe("on links of any speed and length", () => {
  test.each([
    [1_000, 100],
    [12_500, 20],
    [12_500, 200],
    [125_000, 1],
    [1_250_000, 1],
  ])("%d bytes/ms with a round trip of %d ms are used, measured, and not overfilled", (rate, delay) => {
    const { flow, run, most, sent } = simulate(rate, delay);
    run(3000);
    most();
    const before = sent();
    // A minute, as what is measured with a queue may not become a part of the link.
    run(60_000);
    expect(sent() - before).toBeGreaterThan(0.9 * rate * 60_000);
    expect(flow.rate / 1000).toBeGreaterThan(0.8 * rate);
    expect(flow.rate / 1000).toBeLessThan(1.3 * rate);
    expect(flow.roundTrip).toBeGreaterThanOrEqual(delay);
    // A frame takes its time as well, and the first acknowledgements come one by one.
    expect(flow.roundTrip).toBeLessThanOrEqual(delay + 2 + (2 * FRAME) / rate);
    const drain = flow.roundTrip + 50;
    expect(most()).toBeLessThanOrEqual(Math.max(256 * KIB, 1.3 * 1.25 * rate * drain) + FRAME);
  });
});

test("while somebody waits for what comes next, a queue of 10 ms is the most that is made", () => {
  const { flow, run, most } = simulate(50_000, 20);
  run(3000);
  flow.hurry(true);
  run(1000);
  most();
  run(1000);
  expect(most()).toBeLessThanOrEqual(1.3 * 1.25 * 50_000 * (flow.roundTrip + 10) + FRAME);
  const short = flow.limit;
  flow.hurry(false);
  expect(flow.limit / short).toBeCloseTo((flow.roundTrip + 50) / (flow.roundTrip + 10), 6);
});

test("room that a queue makes is used at once, where it may be longer again", async () => {
  const { flow, run } = simulate(50_000, 20);
  flow.hurry(true);
  run(3000);
  let ready = false;
  const waiting = flow.ready().then(() => {
    ready = true;
  });
  await Promise.resolve();
  expect(ready).toBe(false);
  flow.hurry(false);
  await waiting;
});

test("a link that becomes slower holds less within a few seconds, one that becomes faster is found", () => {
  const { flow, link, run, most } = simulate(50_000, 10);
  run(3000);
  const fast = flow.limit;
  link.rate = 5000;
  run(12_000);
  expect(flow.rate / 1000).toBeLessThan(5000 * 1.3);
  most();
  run(1000);
  expect(most()).toBeLessThan(fast / 4);
  link.rate = 50_000;
  run(5000);
  expect(flow.rate / 1000).toBeGreaterThan(50_000 * 0.8);
});

test("pauses of the sender do not count as slowness", () => {
  const { flow, run } = simulate(20_000, 10);
  run(2000);
  const rate = flow.rate;
  run(5000, true);
  run(300);
  expect(flow.rate).toBeGreaterThan(rate * 0.7);
});

describe("who waits for room", () => {
  test("goes on when some is acknowledged, and not before", async () => {
    let now = 0;
    const flow = new Flow(() => now);
    expect(flow.rate).toBe(0);
    expect(flow.roundTrip).toBe(Number.POSITIVE_INFINITY);
    await flow.ready();
    flow.sent(0, 200 * KIB);
    flow.sent(1, 200 * KIB);
    let ready = false;
    const waiting = flow.ready().then(() => {
      ready = true;
    });
    await Promise.resolve();
    expect(ready).toBe(false);
    now = 30;
    flow.acknowledged(0);
    await waiting;
    expect(flow.inFlight).toBe(200 * KIB);
    expect(flow.waited).toBe(30);
  });

  test("has 256 KiB before anything is known of the link, then 1.25 times the rate for a round trip and 50 ms", () => {
    let now = 0;
    const flow = new Flow(() => now);
    expect(flow.limit).toBe(256 * KIB);
    flow.sent(0, 250_000);
    now = 10;
    flow.acknowledged(0);
    expect(flow.limit).toBeCloseTo(1.25 * 25_000 * (10 + 50), 3);
  });

  test("goes on when the link is closed", async () => {
    const flow = new Flow(() => 0);
    flow.sent(0, 10_000 * KIB);
    const waiting = flow.ready();
    flow.close();
    await waiting;
    await flow.ready();
  });

  test("is not moved by acknowledgements of what was not sent, or again", () => {
    const flow = new Flow(() => 0);
    flow.acknowledged(7);
    flow.sent(8, 100);
    flow.acknowledged(7);
    expect(flow.inFlight).toBe(100);
    flow.acknowledged(4_000_000_000);
    flow.acknowledged(8);
    expect(flow.inFlight).toBe(0);
  });

  test("waits without a connection, and what is sent again counts from then on", async () => {
    let now = 0;
    const flow = new Flow(() => now);
    flow.sent(0, 100 * KIB);
    now = 10;
    flow.acknowledged(0);
    flow.sent(1, 300 * KIB);
    flow.pause();
    expect(flow.inFlight).toBe(0);
    let ready = false;
    const waiting = flow.ready().then(() => {
      ready = true;
    });
    now = 20_000;
    await Promise.resolve();
    expect(ready).toBe(false);
    flow.resume();
    await waiting;
    flow.sent(1, 300 * KIB);
    now = 20_030;
    flow.acknowledged(1);
    expect(flow.roundTrip).toBe(30);
    expect(flow.rate / 1000).toBeGreaterThanOrEqual((300 * KIB) / 30);
  });

  test("is moved by acknowledgements after numbers have begun again", () => {
    const flow = new Flow(() => 0);
    flow.sent(2 ** 32 - 1, 100);
    flow.sent(0, 100);
    flow.acknowledged(2 ** 32 - 1);
    expect(flow.inFlight).toBe(100);
    flow.acknowledged(0);
    expect(flow.inFlight).toBe(0);
  });
});

test("a link has something to spare while it is empty between two frames, and only then", () => {
  const { flow, run } = simulate(100_000, 1);
  expect(flow.spare).toBe(0);
  run(200);
  // Always filled, it is what everything waits for.
  expect(flow.spare).toBe(0);
  run(80, true);
  expect(flow.spare / 1000).toBeGreaterThan(50_000);
  run(10);
  expect(flow.spare).toBeGreaterThan(0);
  run(200);
  expect(flow.spare).toBe(0);
});
