import { expect, test } from "bun:test";
import { fuzz } from "./parser.ts";
import { parsers } from "./parsers.ts";

// Always the same cases, so that a failure is the change's; bench/fuzz.ts tries others for as long as it is let run.
const SEED = 20_260_101;
const SCALE = Number(process.env.FUZZ_CASES ?? 1);

test.each(parsers.map((parser) => [parser.name, parser] as const))(
  "%s: nothing but success or a typed error",
  async (_, parser) => {
    const { failure, runs, accepted } = await fuzz(parser, { seed: SEED, runs: Math.ceil(parser.runs * SCALE) });
    expect(failure).toBeUndefined();
    // What the cases are made of is right, and what is done to it is noticed.
    expect(accepted).toBeGreaterThan(0);
    if (parser.codes.length > 0) expect(accepted).toBeLessThan(runs);
  },
  60_000 * Math.max(1, SCALE),
);
