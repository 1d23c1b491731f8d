// Processes that were killed, each at whatever moment: what the next ones make of what they left.
import { describe, expect, test } from "bun:test";
import { listJournals } from "../../../core/handover/journal.ts";
import { type Resolved, resolve } from "../../../core/handover/resolve.ts";
import { within } from "../../support/session.ts";
import { ends } from "./ends.ts";
import { type CopyStage, type SourceStage, type Staged, stage } from "./staged.ts";

const phases = async (state: string) => (await listJournals(state)).map(({ phase }) => phase);
const states = ({ source, copy }: Staged) => [source.runState, copy.runState];

/** Where the guest runs in the end. */
type End = "source" | "destination" | "unknown";
const cases: [SourceStage, CopyStage, End, string, string][] = [
  ["begun", "none", "source", "running", "inmigrate"],
  ["begun", "prepared", "source", "running", "shutdown"],
  ["begun, sent", "prepared", "source", "running", "shutdown"],
  ["begun, sent", "loaded", "source", "running", "shutdown"],
  ["begun, sent", "loaded, dead", "source", "running", "shutdown"],
  ["begun, sent", "lost", "source", "running", "shutdown"],
  ["aborted", "none", "source", "running", "inmigrate"],
  ["aborted", "prepared", "source", "running", "shutdown"],
  ["aborted", "loaded", "source", "running", "shutdown"],
  ["aborted", "lost", "source", "running", "shutdown"],
  ["given", "loaded", "destination", "shutdown", "running"],
  ["given", "taken", "destination", "shutdown", "running"],
  ["given", "taken, running", "destination", "shutdown", "running"],
  ["given", "taken, told", "destination", "shutdown", "running"],
  ["given", "loaded, dead", "source", "running", "shutdown"],
  ["given", "lost", "source", "running", "shutdown"],
  ["given", "taken, dead", "unknown", "postmigrate", "shutdown"],
  ["given", "none", "unknown", "postmigrate", "paused"],
  ["given, dead", "loaded", "destination", "shutdown", "running"],
  ["given, dead", "taken", "destination", "shutdown", "running"],
];

describe("a source that was killed, and a destination that was,", () => {
  test.each(cases)("with a guest that is %s here and %s there", async (at, there, end, here, copy) => {
    await using pair = await ends();
    const staged = await stage(pair, at, there);
    const destination = pair.destination();
    await destination.arrivals.recover();
    const outcomes = await within(pair.settle(destination), "settling");
    await within(destination.idle(), "receiver");
    if (at.startsWith("given")) expect(outcomes.map(({ where }) => where)).toEqual([end]);
    expect(states(staged)).toEqual([here, copy] as never);
    expect(pair.violations).toEqual([]);
    expect(await phases(pair.a)).toEqual(end === "unknown" ? ["given"] : []);
    if (end !== "unknown") expect(await phases(pair.b)).toEqual([]);
  });
});

test("a guest that stood still before stands still after, wherever it goes on", async () => {
  for (const [at, there, expected] of [
    ["begun, sent", "loaded", ["postmigrate", "shutdown"]],
    ["given", "loaded", ["shutdown", "prelaunch"]],
    ["given", "lost", ["postmigrate", "shutdown"]],
  ] as const) {
    await using pair = await ends();
    const staged = await stage(pair, at, there, true);
    const destination = pair.destination();
    await destination.arrivals.recover();
    await within(pair.settle(destination), "settling");
    await within(destination.idle(), "receiver");
    expect<string[]>(states(staged)).toEqual([...expected]);
    expect([await phases(pair.a), await phases(pair.b)]).toEqual([[], []]);
  }
});

test("a guest that was given away and runs here all the same is not let run there", async () => {
  await using pair = await ends();
  const staged = await stage(pair, "given", "loaded");
  staged.source.parts.run.start();
  const destination = pair.destination();
  await destination.arrivals.recover();
  const [outcome] = await within(pair.settle(destination), "settling");
  expect([outcome!.where, outcome!.error!.code]).toEqual(["unknown", "unsettled"]);
  expect(outcome!.error!.message).toContain("somebody has let it run");
  expect<string[]>(states(staged)).toEqual(["running", "paused"]);
});

test("a guest that was let run there and stopped by its owner stays so", async () => {
  await using pair = await ends();
  const staged = await stage(pair, "given", "taken, told");
  staged.copy.parts.run.stop("paused");
  const destination = pair.destination();
  await destination.arrivals.recover();
  const [outcome] = await within(pair.settle(destination), "settling");
  expect(outcome!.where).toBe("destination");
  expect<string[]>(states(staged)).toEqual(["shutdown", "paused"]);
});

test("another QEMU at the path of one that has died is none of the migration's", async () => {
  await using pair = await ends();
  const staged = await stage(pair, "given", "loaded");
  await staged.copy.close();
  const other = await pair.place("web", staged.copySocket);
  const destination = pair.destination();
  expect((await destination.arrivals.recover()).join()).toContain("its QEMU has died");
  const [outcome] = await within(pair.settle(destination), "settling");
  expect([outcome!.where, staged.source.runState, other.runState]).toEqual(["source", "running", "inmigrate"]);

  await using second = await ends();
  const given = await stage(second, "given", "loaded");
  await given.source.close();
  const another = await second.source();
  const there = second.destination();
  await there.arrivals.recover();
  const [settled] = await within(second.settle(there), "settling");
  expect([settled!.where, given.copy.runState, another.runState]).toEqual(["destination", "running", "running"]);
});

test("a destination that a guest did not go to is told nothing of it", async () => {
  await using pair = await ends();
  await stage(pair, "aborted", "none");
  const there = pair.destination();
  await within(pair.settle(there, { to: "memory:elsewhere" }), "settling");
  expect(await phases(pair.a)).toEqual(["aborted"]);
});

test("a receiver that ends leaves what is loaded, and ends what is not", async () => {
  await using pair = await ends();
  const staged = await stage(pair, "given", "loaded");
  const first = pair.destination();
  await first.arrivals.recover();
  await first.close();
  expect([staged.copy.runState, await phases(pair.b)]).toEqual(["paused", ["loaded"]]);
  // Until one of them ends, another leaves it alone.
  const second = pair.destination();
  await second.arrivals.recover();
  expect(await pair.destination().arrivals.recover()).toEqual([]);
});

const resolved: [SourceStage, CopyStage, "a" | "b", "source" | "destination", Resolved | string, string, string][] = [
  ["given", "none", "a", "source", "runs", "running", "paused"],
  ["given", "none", "a", "destination", "ended", "shutdown", "paused"],
  ["given, dead", "none", "a", "source", "refused", "shutdown", "paused"],
  ["given, dead", "none", "a", "destination", "gone", "shutdown", "paused"],
  ["aborted", "loaded", "a", "destination", "refused", "running", "paused"],
  ["begun, sent", "loaded", "a", "source", "runs", "running", "paused"],
  ["given", "loaded", "b", "destination", "runs", "postmigrate", "running"],
  ["given", "loaded", "b", "source", "ended", "postmigrate", "shutdown"],
  ["given", "taken", "b", "destination", "runs", "postmigrate", "running"],
  ["given", "taken, told", "b", "source", "refused", "postmigrate", "running"],
  ["given, dead", "taken, told", "b", "destination", "runs", "shutdown", "running"],
  ["given", "prepared", "b", "destination", "refused", "postmigrate", "paused"],
  ["given", "lost", "b", "destination", "refused", "postmigrate", "shutdown"],
  ["given", "lost", "b", "source", "gone", "postmigrate", "shutdown"],
];

test.each(resolved)("resolved: %s here, %s there, at %s as %s", async (at, there, side, as, done, here, copy) => {
  await using pair = await ends();
  const staged = await stage(pair, at, there);
  const state = side === "a" ? pair.a : pair.b;
  const [entry] = await listJournals(state);
  const result = await within(
    resolve(state, entry!, as).catch((error) => {
      expect(["refused", "input"]).toContain(error.code);
      return "refused";
    }),
    "resolving",
  );
  expect([result, ...states(staged)]).toEqual([done, here, copy]);
  expect(await phases(state)).toEqual(done === "refused" ? [entry!.phase] : []);
  expect(pair.violations).toEqual([]);
});
