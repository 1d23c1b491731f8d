import { describe, expect, test } from "bun:test";
import { autoCodec } from "../../../core/engine/auto-codec.ts";
import { CODEC } from "../../../core/wire/numbers.ts";

const MIB = 2 ** 20;
/** Of one core: new bytes a millisecond, and wire bytes for each of them. */
const COSTS = new Map<number, { speed: number; ratio: number }>([
  [CODEC.ZSTD, { speed: 200e3, ratio: 0.3 }],
  [CODEC.LZ4, { speed: 400e3, ratio: 0.5 }],
  [CODEC.NONE, { speed: 4e6, ratio: 1 }],
]);

/** Sends batches of 1 MiB over a link of so many bytes a millisecond; gives the share of each codec. */
function run(
  link: number,
  batches: number,
  costs = COSTS,
  known = (_: number) => false,
  demand = 0,
): Map<number, number> {
  let now = 0;
  const policy = autoCodec(
    () => now,
    () => demand,
  );
  const used = new Map<number, number>();
  for (let i = 0; i < batches; i++) {
    const codec = policy.next();
    used.set(codec, (used.get(codec) ?? 0) + 1 / batches);
    const { speed, ratio } = costs.get(codec)!;
    // Of a batch whose pages are known hardly anything is left, and a buffer takes that.
    const share = known(i) ? 1e-3 : 1;
    const encoding = (MIB * share) / speed;
    const sending = known(i) ? 0.05 : (MIB * ratio) / link;
    now += Math.max(encoding, sending);
    policy.encoded!(codec, MIB * share, MIB * share * ratio, encoding);
    policy.written!(MIB * share * ratio, Math.max(0.01, sending), link);
  }
  return used;
}

describe("the codec is chosen by what bounds the migration", () => {
  test("a slow link gets the one that makes the least of a page, and none of the others is tried", () => {
    expect(run(12.5e3, 500).get(CODEC.ZSTD)).toBeCloseTo(1, 6);
  });

  test("pages that are known are not taken for a fast link", () => {
    expect(run(12.5e3, 500, COSTS, (i) => i % 50 >= 20).get(CODEC.ZSTD)).toBeCloseTo(1, 6);
  });

  test("a fast link gets none", () => {
    expect(run(4e6, 500).get(CODEC.NONE)).toBeGreaterThan(0.9);
  });

  test("a link that only seems slow, as its ends are short of time, gets none", () => {
    const slow = new Map([...COSTS].map(([codec, { speed, ratio }]) => [codec, { speed: speed / 4, ratio }]));
    expect(run(80e3, 500, slow, () => false, 0.95).get(CODEC.NONE)).toBeGreaterThan(0.9);
    // What it makes of the pages in that time is more than the link would take.
    expect(run(80e3, 500, COSTS, () => false, 0.95).get(CODEC.NONE)).toBeUndefined();
    expect(run(80e3, 500, COSTS, () => false, 0.5).get(CODEC.NONE)).toBeUndefined();
    expect(run(12.5e3, 500, COSTS, () => false, 1).get(CODEC.NONE)).toBeUndefined();
  });

  test("a processor that is busy elsewhere makes it change to a faster one", () => {
    const busy = new Map([...COSTS].map(([codec, { speed, ratio }]) => [codec, { speed: speed / 10, ratio }]));
    expect(run(12.5e3, 500, busy).get(CODEC.ZSTD)).toBeLessThan(0.6);
  });
});
