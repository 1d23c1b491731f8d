// One run, and what goes wrong in it: a guest that was not given away runs on here, with QEMU's settings as they were.
import { expect, test } from "bun:test";
import { CancelledError } from "../../../core/errors.ts";
import { listJournals } from "../../../core/handover/journal.ts";
import { within } from "../../support/session.ts";
import { type Destination, type Ends, ends, type Meddle } from "./ends.ts";

const phases = async (state: string) => (await listJournals(state)).map(({ phase }) => phase);

async function settled(pair: Ends, there: Destination) {
  await within(there.idle(), "receiver");
  return { here: await phases(pair.a), there: await phases(pair.b), violations: pair.violations };
}
const NOTHING = { here: [], there: [], violations: [] };

test("a guest moves, with its phases in order", async () => {
  await using pair = await ends();
  const source = await pair.source();
  const copy = await pair.place();
  const there = pair.destination();
  const seen: string[] = [];
  const [outcome] = await within(pair.migrate(there, { onPhase: (_, phase) => seen.push(phase) }), "migration");
  expect([outcome!.where, outcome!.error]).toEqual(["destination", undefined]);
  expect(outcome!.departed!.downtimeMs).toBeGreaterThanOrEqual(0);
  expect(outcome!.departed!.totalMs).toBeGreaterThanOrEqual(outcome!.departed!.downtimeMs!);
  expect(seen).toEqual(["prepare", "perform", "finish", "confirm"]);
  expect(await settled(pair, there)).toEqual(NOTHING);
  expect(there.states).toEqual(["loaded", "taken", "running", "ended"]);
  expect(await there.fates[0]!).toEqual([{ name: "web", landed: true }]);
  expect<string[]>([source.runState, copy.runState]).toEqual(["shutdown", "running"]);
  expect(copy.check().wrong).toBe(0);
});

test("a guest that is to stay paused, and a QEMU that is to stay", async () => {
  await using pair = await ends();
  const source = await pair.source();
  const copy = await pair.place();
  const there = pair.destination();
  const before = source.parts.capabilities.list();
  await within(pair.migrate(there, {}, { paused: true, keepSource: true }), "migration");
  expect(await settled(pair, there)).toEqual(NOTHING);
  expect<string[]>([source.runState, copy.runState]).toEqual(["postmigrate", "paused"]);
  expect(source.parts.capabilities.list()).toEqual(before);
});

test("where the guest is not expected, or can't go on, it stays", async () => {
  await using pair = await ends();
  const source = await pair.source();
  const there = pair.destination();
  const [unknown] = await within(pair.migrate(there), "migration");
  expect([unknown!.where, unknown!.error!.code]).toEqual(["source", "refused"]);
  const copy = await pair.place();
  Object.assign(copy.parts.spec, { memory: 2 << 20 });
  const [larger] = await within(pair.migrate(there), "migration");
  expect([larger!.where, larger!.error!.code]).toEqual(["source", "refused"]);
  expect(larger!.error!.message).toContain("The memory is 1 MiB at the source and 2 MiB at the destination");
  expect(there.refused).toHaveLength(2);
  expect(await settled(pair, there)).toEqual(NOTHING);
  // It was not asked for anything yet, so it may still wait for another one.
  expect<string[]>([source.runState, copy.runState]).toEqual(["running", "inmigrate"]);
});

test.each([["prepare"], ["perform"], ["finish"], ["confirm"]])("a user who ends it in the phase %s", async (phase) => {
  await using pair = await ends();
  const source = await pair.source();
  const copy = await pair.place();
  const there = pair.destination();
  const user = new AbortController();
  const onPhase = (_: string, now: string) => {
    if (now === phase) user.abort(new CancelledError("Interrupted by SIGINT"));
  };
  const [outcome] = await within(pair.migrate(there, { signal: user.signal, onPhase }), "migration");
  expect(await settled(pair, there)).toEqual(NOTHING);
  const gone = phase === "confirm";
  expect([outcome!.where, outcome!.error?.code]).toEqual(gone ? ["destination", undefined] : ["source", "cancelled"]);
  expect<string[]>([source.runState, copy.runState]).toEqual(
    gone ? ["shutdown", "running"] : ["running", phase === "prepare" ? "inmigrate" : "shutdown"],
  );
});

test.each([
  ["the source's QEMU in the middle", "setup", "source"],
  ["the destination's QEMU in the middle", "setup", "destination"],
  ["the destination's QEMU when all is there", "loaded", "destination"],
  ["the destination's QEMU when it is to run", "cont", "destination"],
])("%s dies", async (_, point, side) => {
  await using pair = await ends();
  const faults = [{ kind: "die", point, round: 0 }] as never;
  const source = await pair.source(side === "source" ? { faults } : {});
  const copy = await pair.place("web", undefined, side === "source" ? [] : faults);
  const there = pair.destination();
  const [outcome] = await within(pair.migrate(there), "migration");
  const left = await settled(pair, there);
  expect(left.violations).toEqual([]);
  expect(copy.runState).toBe("shutdown");
  if (point === "cont") {
    // Nobody can tell whether it ran there.
    expect([outcome!.where, left.here, left.there]).toEqual(["unknown", ["given"], ["taken"]]);
    expect<string>(source.runState).toBe("postmigrate");
  } else {
    expect([outcome!.where, left.here, left.there]).toEqual([side === "source" ? "nowhere" : "source", [], []]);
    expect<string>(source.runState).toBe(side === "source" ? "shutdown" : "running");
  }
});

test("one whose QEMU has ended before anything was asked of it runs nowhere", async () => {
  await using pair = await ends();
  const source = await pair.source();
  await pair.place();
  const there = pair.destination();
  const departing = await pair.begin();
  await source.close();
  const [outcome] = await within(pair.move(there, [departing]), "migration");
  expect(await settled(pair, there)).toEqual(NOTHING);
  expect([outcome!.where, outcome!.error!.message]).toEqual([
    "nowhere",
    expect.stringContaining("start the guest again"),
  ]);
});

test("a source's QEMU that dies when all of its guest is there has not kept it from moving", async () => {
  await using pair = await ends();
  const source = await pair.source({ faults: [{ kind: "late", point: "device", round: 0 }] });
  const copy = await pair.place();
  const there = pair.destination();
  const open = () =>
    there.open(async ({ payload }) => {
      if (payload.includes("loaded")) setTimeout(() => source.parts.die(), 20);
      return "deliver";
    });
  const [outcome] = await within(pair.migrate(there, { open }), "migration");
  expect([outcome!.where, copy.runState]).toEqual(["destination", "running"]);
  expect(await settled(pair, there)).toEqual(NOTHING);
});

test("a copy that is lost before it is given away is not given away", async () => {
  await using pair = await ends();
  const source = await pair.source();
  const copy = await pair.place();
  const there = pair.destination();
  const meddle: Meddle = async ({ payload, from }) => {
    // Its QEMU dies as soon as the source has heard that it is there.
    if (from === "destination" && payload.includes("loaded")) copy.parts.die();
    return "deliver";
  };
  const [outcome] = await within(pair.migrate(there, { open: () => there.open(meddle) }), "migration");
  expect(outcome!.where).toBe("source");
  expect(await settled(pair, there)).toEqual(NOTHING);
  expect<string>(source.runState).toBe("running");
});

test("a guest that somebody else has moved meanwhile is not let run", async () => {
  await using pair = await ends();
  const source = await pair.source();
  await pair.place();
  const there = pair.destination();
  const departing = await pair.begin();
  source.parts.run.stop("paused");
  source.parts.run.set("postmigrate");
  const outcomes = await within(pair.move(there, [departing]), "migration");
  expect([outcomes[0]!.where, source.runState as string]).toEqual(["source", "postmigrate"]);
  expect(await settled(pair, there)).toEqual(NOTHING);
});

test("a journal that can't say that the guest is given away keeps it here", async () => {
  await using pair = await ends();
  const source = await pair.source();
  const copy = await pair.place();
  const there = pair.destination();
  const departing = await pair.begin();
  const update = departing.journal.update.bind(departing.journal);
  departing.journal.update = (change) =>
    change.phase === "given" ? Promise.reject(new Error("no space left")) : update(change);
  const [outcome] = await within(pair.move(there, [departing]), "migration");
  expect(outcome!.where).toBe("source");
  expect(await settled(pair, there)).toEqual(NOTHING);
  expect<string[]>([source.runState, copy.runState]).toEqual(["running", "shutdown"]);
});

test.each([["cancel"], ["stop"]] as const)("a guest that is copied for too long, and then %s", async (onTimeout) => {
  await using pair = await ends();
  // Slower than it writes, so it would never be copied.
  const source = await pair.source({ dirty: 64 << 20, memory: 4 << 20, private: 3 << 20, zero: 0 });
  const copy = await pair.place("web", undefined, [], 4 << 20);
  const there = pair.destination();
  const limits = { bandwidth: 8 << 20, downtimeLimitMs: 1, timeoutMs: 200, onTimeout };
  const [outcome] = await within(pair.migrate(there, { ...limits, switchoverTimeoutMs: 1000 }), "migration", 20_000);
  const moved = onTimeout === "stop";
  expect([outcome!.where, outcome!.error?.code]).toEqual(moved ? ["destination", undefined] : ["source", "timeout"]);
  expect(await settled(pair, there)).toEqual(NOTHING);
  expect<string[]>([source.runState, copy.runState]).toEqual(moved ? ["shutdown", "running"] : ["running", "shutdown"]);
  if (moved) expect(copy.check().wrong).toBe(0);
});

test("a switch that takes too long is taken back", async () => {
  await using pair = await ends();
  const source = await pair.source();
  const copy = await pair.place("web", undefined, [{ kind: "late", point: "loaded", round: 0 }]);
  const there = pair.destination();
  const [outcome] = await within(pair.migrate(there, { switchoverTimeoutMs: 200 }), "migration");
  expect([outcome!.where, outcome!.error!.code]).toEqual(["source", "link"]);
  expect(await settled(pair, there)).toEqual(NOTHING);
  expect<string[]>([source.runState, copy.runState]).toEqual(["running", "shutdown"]);
});
