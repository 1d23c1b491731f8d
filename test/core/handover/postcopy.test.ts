// Post-copy, as far as the two ends decide it: what is begun, what may be taken back, what is recovered, and what is lost.
import { describe, expect, test } from "bun:test";
import { CancelledError } from "../../../core/errors.ts";
import { Journal, listJournals } from "../../../core/handover/journal.ts";
import { resolve } from "../../../core/handover/resolve.ts";
import { guard } from "../../../core/handover/source/guardian.ts";
import type { FakeVm } from "../../../core/machines/fake/fake-vm.ts";
import { QmpError } from "../../../core/machines/fake/qmp-error.ts";
import { within } from "../../support/session.ts";
import { type Ends, ends, type Meddle } from "./ends.ts";
import { type CopyStage, ID, type SourceStage, type Staged, stage } from "./staged.ts";
import { pretend, teach } from "./switching.ts";

const phases = async (state: string) => (await listJournals(state)).map(({ phase }) => phase);
const states = ({ source, copy }: { source: FakeVm; copy: FakeVm }): string[] => [source.runState, copy.runState];

/** A guest that writes faster than it is copied, with a limit after which it is to go on at the destination. */
const BUSY = { dirty: 64 << 20, memory: 4 << 20, private: 3 << 20, zero: 0 };
const LIMITS = { bandwidth: 8 << 20, downtimeLimitMs: 1, timeoutMs: 100, onTimeout: "postcopy" } as const;

async function busy(pair: Ends) {
  const source = await pair.source(BUSY);
  const copy = await pair.place("web", undefined, [], BUSY.memory);
  return { source, copy, there: pair.destination() };
}

describe("a guest that is to switch", () => {
  test("stays where the destination can't, before anything of it is sent", async () => {
    await using pair = await ends();
    const { source, copy, there } = await busy(pair);
    const [outcome] = await within(pair.migrate(there, LIMITS), "migration");
    expect([outcome!.where, outcome!.error!.code]).toEqual(["source", "refused"]);
    expect(outcome!.error!.message).toContain("post-copy needs userfaultfd: run QEMU as root");
    expect([states({ source, copy }), source.parts.migration.status]).toEqual([["running", "inmigrate"], "none"]);
    expect([await phases(pair.a), await phases(pair.b)]).toEqual([[], []]);
  });

  test("is not told that it needs userfaultfd where something else is wrong", async () => {
    await using pair = await ends();
    const { copy, there } = await busy(pair);
    copy.parts.run.set("paused");
    const [outcome] = await within(pair.migrate(there, LIMITS), "migration");
    expect(outcome!.error!.message).toContain("start it with -incoming defer");
    expect(outcome!.error!.message).not.toContain("userfaultfd");
  });

  test("stands still before, and goes on here where QEMU refuses", async () => {
    await using pair = await ends();
    const { source, copy, there } = await busy(pair);
    const then: string[] = [];
    using _ = teach([source, copy], {
      "migrate-start-postcopy": (vm) => {
        then.push(vm.runState);
        throw new QmpError("not now");
      },
    });
    const [outcome] = await within(pair.migrate(there, LIMITS), "migration");
    expect([outcome!.where, then]).toEqual(["source", ["paused"]]);
    expect(outcome!.error!.message).toContain("not now");
    expect(states({ source, copy })).toEqual(["running", "shutdown"]);
    expect([await phases(pair.a), pair.violations]).toEqual([[], []]);
  });

  test("moves as any other where it was copied just then, whatever its user wants", async () => {
    await using pair = await ends();
    const { source, copy, there } = await busy(pair);
    // QEMU takes the command at any time.
    using _ = teach([source, copy], { "migrate-start-postcopy": () => ({}) });
    const user = new AbortController();
    const switched: string[] = [];
    const onPostcopy = (name: string) => {
      switched.push(name);
      user.abort(new CancelledError("Interrupted by SIGINT"));
    };
    const options = { ...LIMITS, bandwidth: 24 << 20, signal: user.signal, onPostcopy };
    const [outcome] = await within(pair.migrate(there, options), "migration", 20_000);
    expect([outcome!.where, outcome!.error, switched]).toEqual(["destination", undefined, ["web"]]);
    expect(states({ source, copy })).toEqual(["shutdown", "running"]);
    expect([await phases(pair.a), pair.violations, pair.starts, copy.check().wrong]).toEqual([[], [], 1, 0]);
  });

  test("arrives though what keeps the connection to its QEMU dies", async () => {
    await using pair = await ends();
    const { source, copy, there } = await busy(pair);
    using _ = teach([source, copy], {});
    let killed = 0;
    const open = () =>
      there.open(async ({ from }) => {
        const [kept] = pair.keepers;
        if (from === "destination" && there.states.at(-1) === "loaded" && killed++ === 0) await kept!.client.close();
        return "deliver";
      });
    const options = { ...LIMITS, timeoutMs: 60_000, downtimeLimitMs: 2000, open };
    const [outcome] = await within(pair.migrate(there, options), "migration", 20_000);
    expect([outcome!.where, outcome!.error, killed > 0]).toEqual(["destination", undefined, true]);
    expect([states({ source, copy }), pair.violations, pair.starts]).toEqual([["shutdown", "running"], [], 1]);
  });

  test("leaves no QEMU waiting where it stays, though what kept the connection to that has died", async () => {
    await using pair = await ends();
    const { source, copy, there } = await busy(pair);
    using _ = teach([source, copy], {});
    const user = new AbortController();
    const onPhase = (_: string, phase: string) => {
      if (phase !== "perform") return;
      void pair.keepers[0]!.client.close();
      // Until then the destination has connected to it once more.
      setTimeout(() => user.abort(new CancelledError("Interrupted by SIGINT")), 200);
    };
    const options = { ...LIMITS, timeoutMs: 60_000, signal: user.signal, onPhase };
    const [outcome] = await within(pair.migrate(there, options), "migration");
    await within(there.idle(), "receiver");
    expect([outcome!.where, states({ source, copy })]).toEqual(["source", ["running", "shutdown"]]);
    expect([await phases(pair.b), pair.violations]).toEqual([[], []]);
  });

  test("is refused where a keeper's socket would have a path of more than 107 bytes", async () => {
    for (const more of [0, 1]) {
      const base = await ends();
      const length = 107 - 48 - Buffer.byteLength(`${base.path("")}/`) + more;
      await base[Symbol.asyncDispose]();
      await using pair = await ends({ b: "b".repeat(length) });
      const { source, copy, there } = await busy(pair);
      using _ = teach([source, copy], {});
      const options = { ...LIMITS, timeoutMs: 60_000, downtimeLimitMs: 2000 };
      const [outcome] = await within(pair.migrate(there, options), "migration", 20_000);
      expect([outcome!.where, outcome!.error?.code]).toEqual(
        more === 0 ? ["destination", undefined] : ["source", "refused"],
      );
    }
  });

  test("goes on here where the link has died before QEMU has switched", async () => {
    await using pair = await ends();
    const { source, copy, there } = await busy(pair);
    let cut = async () => {};
    using _ = teach([source, copy], {
      "migrate-start-postcopy": () => {
        void cut();
        return {};
      },
    });
    const open = () =>
      there.open(async (_word, how) => {
        cut = how;
        return "deliver";
      });
    const [outcome] = await within(pair.migrate(there, { ...LIMITS, open }), "migration");
    await within(there.idle(), "receiver");
    expect([outcome!.where, states({ source, copy })]).toEqual(["source", ["running", "shutdown"]]);
    expect(pair.violations).toEqual([]);
  });

  test("is the destination's once QEMU has switched, and says how to go on", async () => {
    await using pair = await ends();
    const { source, copy, there } = await busy(pair);
    using _ = teach([source, copy], {
      "migrate-start-postcopy": (vm) => {
        pretend(vm, "postcopy-active");
        return {};
      },
    });
    const onPhase = (_: string, phase: string) => {
      // Its stream breaks, which is for QEMU to notice.
      if (phase === "confirm") setTimeout(() => pretend(source, "postcopy-paused"), 50);
    };
    const [outcome] = await within(pair.migrate(there, { ...LIMITS, onPhase }), "migration", 20_000);
    expect([outcome!.where, outcome!.error!.code]).toEqual(["unknown", "unsettled"]);
    expect(outcome!.error!.message).toContain("Run the same command again, with --recover");
    const [entry] = await listJournals(pair.a);
    expect([entry!.phase, entry!.postcopy, copy.runState as string]).toEqual(["given", true, "running"]);
    expect([source.runState === "running", pair.violations]).toEqual([false, []]);
  });
});

/** As a source that was killed has left it: post-copy is begun, and QEMU is as far as it says. */
async function interrupted(pair: Ends, at: SourceStage, there: CopyStage, source: string, copy: string) {
  const staged = await stage(pair, at, there);
  for (const [state, role] of [
    [pair.a, "source"],
    [pair.b, "destination"],
  ] as const) {
    const journal = await Journal.resume(state, { role, id: ID });
    await journal?.update({ postcopy: true });
    await journal?.release();
  }
  if (!at.endsWith("dead")) pretend(staged.source, source);
  if (!there.endsWith("dead") && there !== "lost") pretend(staged.copy, copy);
  return staged;
}

test("whoever watches over a tool takes back what has not switched, and leaves what has", async () => {
  for (const [status, phase, runs] of [
    ["postcopy-active", "given", "postmigrate"],
    ["postcopy-paused", "given", "postmigrate"],
    ["failed", "aborted", "running"],
  ] as const) {
    await using pair = await ends();
    const { source } = await interrupted(pair, "begun, sent", "loaded", status, "postcopy-active");
    await guard(pair.a, [ID]);
    expect<unknown[]>([source.runState, await phases(pair.a)]).toEqual([runs, [phase]]);
    await guard(pair.a, [ID]);
    expect<unknown[]>([source.runState, await phases(pair.a)]).toEqual([runs, [phase]]);
  }
});

async function settle(pair: Ends, staged: Staged) {
  const there = pair.destination();
  await there.arrivals.recover();
  const [outcome] = await within(pair.settle(there), "settling", 20_000);
  await within(there.idle(), "receiver");
  return { outcome: outcome!, states: states(staged), here: await phases(pair.a), violations: pair.violations };
}

const DONE = { states: ["shutdown", "running"], here: [], violations: [] };

describe("a post-copy that was interrupted", () => {
  test.each([
    ["is taken for a failure here", "given", "taken, running", "failed"],
    ["waits for an answer here", "given", "loaded", "postcopy-paused"],
    ["has died here", "given, dead", "taken, told", ""],
  ] as const)("has ended where all of the guest is there: it %s", async (_, at, copy, status) => {
    await using pair = await ends();
    const staged = await interrupted(pair, at, copy, status, "completed");
    const { outcome, ...rest } = await settle(pair, staged);
    expect([outcome.where, rest]).toEqual(["destination", DONE]);
  });

  test("goes on over another stream, once the destination waits for it", async () => {
    await using pair = await ends();
    const staged = await interrupted(pair, "given", "taken, told", "postcopy-active", "postcopy-active");
    const { source, copy } = staged;
    const done: string[] = [];
    using _ = teach([], {
      "migrate-pause": (vm) => {
        done.push(vm === source ? "pause" : "pause there");
        pretend(vm, "postcopy-paused");
        return {};
      },
      "migrate-recover": (vm) => {
        if ((vm.parts.migration.status as string) !== "postcopy-paused") throw new QmpError("only when it is paused");
        done.push("recover there");
        return {};
      },
      migrate: (vm, { resume }) => {
        done.push(`resume ${resume}`);
        for (const each of [vm, copy]) pretend(each, "postcopy-active");
        setTimeout(() => {
          for (const each of [vm, copy]) pretend(each, "completed");
        }, 100);
        return {};
      },
    });
    const { outcome, ...rest } = await settle(pair, staged);
    expect([outcome.error, outcome.where, rest]).toEqual([undefined, "destination", DONE]);
    expect(done).toEqual(["pause there", "recover there", "pause", "resume true"]);
    expect(await phases(pair.b)).toEqual([]);
  });

  test.each([
    [
      "the source's QEMU does not leave the old one",
      { pauseMs: 60 },
      [] as string[],
      "prepared",
      "is not postcopy-paused within 0.06 s",
    ],
    [
      "the source's QEMU does not go on over it",
      { recoverMs: 1000 },
      ["migrate-pause"],
      "prepared",
      "is not postcopy-active or completed within 1 s",
    ],
    [
      "the destination does not wait for it",
      { recoverMs: 60 },
      ["migrate-pause"],
      "nothing",
      "not ready to go on within 0.06 s",
    ],
  ] as const)("is tried again later where %s in time", async (_, waits, works, says, why) => {
    await using pair = await ends({ waits });
    await interrupted(pair, "given", "taken, told", "postcopy-active", "postcopy-paused");
    using _t = teach([], {
      "migrate-pause": (vm) => {
        if (works.includes("migrate-pause")) pretend(vm, "postcopy-paused");
        return {};
      },
      "migrate-recover": () => ({}),
      migrate: () => ({}),
    });
    const there = pair.destination();
    await there.arrivals.recover();
    const lost: Meddle = async ({ from, payload }) =>
      says === "nothing" && from === "destination" && payload.includes("prepared") ? "drop" : "deliver";
    const [outcome] = await within(pair.settle(there, { open: () => there.open(lost) }), "settling", 8000);
    expect([outcome!.where, outcome!.error!.code, await phases(pair.a)]).toEqual(["unknown", "unsettled", ["given"]]);
    expect(outcome!.error!.message).toContain(why);
    expect(outcome!.error!.message).toContain("with --recover");
  });

  test.each([
    ["the source has", "given, dead", "taken, told", "", "the source's QEMU has ended"],
    ["the destination has", "given", "taken, dead", "postcopy-paused", 'The QEMU of "web" has ended'],
    ["the destination has before it ran", "given", "lost", "postcopy-paused", "its copy died at the destination"],
  ] as const)("is a loss where %s died", async (_, at, copy, status, why) => {
    await using pair = await ends();
    using _t = teach([], { "migrate-recover": () => ({}) });
    const staged = await interrupted(pair, at, copy, status, "postcopy-paused");
    const { outcome, here } = await settle(pair, staged);
    expect([outcome.where, outcome.error!.code, here]).toEqual(["unknown", "unsettled", ["given"]]);
    expect(outcome.error!.message).toContain(why);
    expect(outcome.error!.message).toContain('"web" is lost');
  });

  test("is none where all was sent, and its copy died before it ran", async () => {
    await using pair = await ends();
    const staged = await interrupted(pair, "given", "lost", "completed", "");
    const { outcome, ...rest } = await settle(pair, staged);
    expect([outcome.where, rest.states, rest.here]).toEqual(["source", ["running", "shutdown"], []]);
  });

  test("is not recovered where somebody has let the source's guest run", async () => {
    await using pair = await ends();
    const staged = await interrupted(pair, "given", "loaded", "failed", "completed");
    staged.source.parts.run.start();
    const { outcome, states } = await settle(pair, staged);
    expect([outcome.where, states]).toEqual(["unknown", ["running", "paused"]]);
    expect(outcome.error!.message).toContain("somebody has let it run");
  });

  test.each([
    ["a", "source"],
    ["a", "destination"],
    ["b", "source"],
    ["b", "destination"],
  ] as const)("is not resolved by hand while both QEMUs are there: %s as %s", async (side, as) => {
    await using pair = await ends();
    const staged = await interrupted(pair, "given", "taken, told", "postcopy-paused", "postcopy-paused");
    const state = pair[side];
    const [entry] = await listJournals(state);
    const error = await resolve(state, entry!, as).catch((thrown) => thrown);
    expect([error.code, states(staged), (await phases(state)).length]).toEqual([
      "refused",
      ["postmigrate", "running"],
      1,
    ]);
    expect(error.message).toContain("migrate --recover");
  });
});
