// What a hand-over comes to when a word is not said in time.
import { expect, test } from "bun:test";
import { CancelledError } from "../../../core/errors.ts";
import { listJournals } from "../../../core/handover/journal.ts";
import { WAITS } from "../../../core/handover/source/waits.ts";
import { within } from "../../support/session.ts";
import { ends, type Meddle } from "./ends.ts";

const phases = async (state: string) => (await listJournals(state)).map(({ phase }) => phase);
const SHORT = 60;
/** Less than any of the usual waits: whatever takes as long was not bounded by the short one. */
const SOON = 3500;

/** Loses the first `times` words of the destination that have each of these types. */
const silent = (words: Record<string, number>): Meddle => {
  const left = new Map(Object.entries(words));
  return async ({ from, payload }) => {
    if (from !== "destination") return "deliver";
    const lost = [...left].find(([type, times]) => times > 0 && payload.includes(`${type}`));
    if (!lost) return "deliver";
    left.set(lost[0], lost[1] - 1);
    return "drop";
  };
};

test("are as long as docs/limits.md says", () => {
  expect(WAITS).toEqual({
    ...{ prepareMs: 60_000, runMs: 30_000, patienceMs: 5000, settleMs: 30_000, dropMs: 4000 },
    ...{ pauseMs: 10_000, recoverMs: 30_000 },
  });
});

test("a destination that does not get ready: the guest stays", async () => {
  await using pair = await ends({ waits: { prepareMs: SHORT } });
  const source = await pair.source();
  await pair.place();
  const there = pair.destination();
  const open = () => there.open(silent({ prepared: 1 }));
  const [outcome] = await within(pair.migrate(there, { open }), "migration", SOON);
  expect([outcome!.where, outcome!.error!.code]).toEqual(["source", "link"]);
  expect(outcome!.error!.message).toContain('not ready for "web" within 0.06 s');
  expect<unknown[]>([source.runState, await phases(pair.a)]).toEqual(["running", []]);
});

test("one that does not say that it has dropped its copy: the next run tells it", async () => {
  await using pair = await ends({ waits: { prepareMs: SHORT, dropMs: SHORT } });
  const source = await pair.source();
  await pair.place();
  const there = pair.destination();
  const open = () => there.open(silent({ prepared: 1, cancelled: 1 }));
  const [outcome] = await within(pair.migrate(there, { open }), "migration", SOON);
  expect<unknown[]>([outcome!.where, source.runState, await phases(pair.a)]).toEqual([
    "source",
    "running",
    ["aborted"],
  ]);
});

test("one that does not say that the guest runs is asked again", async () => {
  await using pair = await ends({ waits: { runMs: SHORT } });
  await pair.source();
  const copy = await pair.place();
  const there = pair.destination();
  const open = () => there.open(silent({ running: 1 }));
  const [outcome] = await within(pair.migrate(there, { open }), "migration", SOON);
  expect<unknown[]>([outcome!.where, copy.runState, await phases(pair.a)]).toEqual(["destination", "running", []]);
});

test("one that then says nothing at all: nobody knows where the guest is", async () => {
  await using pair = await ends({ waits: { runMs: SHORT, settleMs: SHORT } });
  await pair.source();
  await pair.place();
  const there = pair.destination();
  let opened = 0;
  const open = () => {
    opened++;
    return there.open(silent({ running: 9, settled: 9 }));
  };
  const [outcome] = await within(pair.migrate(there, { open, settleMs: 10 }), "migration", SOON);
  // As long as is wanted, over a session of its own.
  expect(opened).toBe(2);
  expect([outcome!.where, outcome!.error!.code, await phases(pair.a)]).toEqual(["unknown", "unsettled", ["given"]]);
  expect(outcome!.error!.message).toContain("it does not answer within 0.06 s");
});

test("a user who wants to end waits less for the same", async () => {
  await using pair = await ends({ waits: { patienceMs: SHORT } });
  await pair.source();
  await pair.place();
  const there = pair.destination();
  const user = new AbortController();
  const lose = silent({ running: 9 });
  const open = () =>
    there.open(async (word, cut) => {
      const verdict = await lose(word, cut);
      if (verdict === "drop") user.abort(new CancelledError("Interrupted by SIGINT"));
      return verdict;
    });
  const [outcome] = await within(pair.migrate(there, { open, signal: user.signal }), "migration", SOON);
  expect([outcome!.where, outcome!.error!.code, await phases(pair.a)]).toEqual(["unknown", "unsettled", ["given"]]);
});
