import { expect, test } from "bun:test";
import { LINK_TIMES } from "../../../core/engine/link-times.ts";
import { Outages } from "../../../core/engine/outages.ts";
import { BACK_OFF } from "../../../core/engine/reconnect.ts";
import { LinkError } from "../../../core/errors.ts";

const reason = new LinkError("cut");

test("a link has the times that docs/limits.md says", () => {
  expect(LINK_TIMES).toEqual({ handshake: 15_000, ping: 2000, dead: 6000, farewell: 1000, resume: 60_000 });
  expect(BACK_OFF).toEqual([0, 200, 500, 1000, 2000]);
});

test.each([
  ["source", true, 60_000],
  ["destination", false, 72_000],
])("a %s is without a connection for so long, and no longer", (_, dials, limit) => {
  const outages = new Outages(LINK_TIMES, dials);
  const { since } = outages.begin(reason, performance.now(), true);
  expect(outages.expired(since + limit - 1, "peer")).toBe(undefined);
  const error = outages.expired(since + limit + 1, "peer");
  expect(error).toBeInstanceOf(LinkError);
  expect(error!.message).toContain(`within ${limit / 1000} s`);
});

test("a connection over which nothing came counts as none: time and attempts go on", () => {
  const outages = new Outages({ ...LINK_TIMES, resume: 1000 }, true);
  const first = outages.begin(reason, performance.now(), true);
  first.attempts = 4;
  first.since -= 700;
  outages.end();
  const again = outages.begin(reason, performance.now(), false);
  expect(again.attempts).toBe(4);
  expect(again.spent).toBeGreaterThanOrEqual(700);
  expect(outages.expired(again.since + 310, "peer")).toBeInstanceOf(LinkError);
  outages.end();
  expect(outages.begin(reason, performance.now(), true)).toMatchObject({ attempts: 0, spent: 0 });
});
