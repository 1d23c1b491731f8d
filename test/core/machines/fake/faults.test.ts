// Each fault happens where it was asked for, and what it leaves behind is what docs/fake.md says.
import { expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { enable, lab, migrate, type Started } from "./support.ts";

const VM = "vm?memory=2M&dirty=4M&working-set=128K";

/** Starts both ends with these faults, and migrates until the source's migration ends, or `until`. */
async function run(
  at: ReturnType<typeof lab>,
  source: string,
  destination: string,
  until: string[] = ["completed", "failed"],
) {
  const from = await at.start(`${VM}${source && `&fail=${source}`}`);
  const to = await at.start(`${VM}${destination && `&fail=${destination}`}`, { incoming: true });
  for (const one of [from, to]) await enable(one, "pause-before-switchover");
  await to.qmp.execute("migrate-incoming", { uri: `unix:${at.path("in")}` });
  const go = async () => {
    const state = await migrate(from, at.path("in"), "pre-switchover", ...until);
    if (state !== "pre-switchover" || until.includes(state)) return state;
    await from.qmp.execute("migrate-continue", { state: "pre-switchover" });
    const { data } = await from.qmp.event("MIGRATION", ({ status }) => until.includes(String(status)));
    return String(data.status);
  };
  return { from, to, go };
}
const states = (...all: Started[]) => all.map(({ vm }) => vm.runState);

test.each(["setup", "round:1", "round:2", "switchover", "device"])(
  "a source that dies at %s leaves no guest",
  async (point) => {
    await using at = lab();
    const { from, to, go } = await run(at, `die@${point}`, "");
    await expect(go()).rejects.toThrow("closed its QMP connection");
    expect(await from.vm.ended).toBe("killed");
    expect(await to.vm.ended).toMatchObject({ code: "link" });
  },
);

test.each(["setup", "round:1", "switchover", "device", "loaded"])(
  "when the destination dies at %s, the source's guest runs on",
  async (point) => {
    await using at = lab();
    const { from, to, go } = await run(at, "", `die@${point}`);
    expect(await go()).toBe("failed");
    expect([from.vm.runState, await to.vm.ended]).toEqual(["running", "killed"]);
    expect(from.vm.check().wrong).toBe(0);
  },
);

test.each([
  ["stall@round:1", "", "active"],
  ["", "stall@loaded", "device"],
  ["hang@switchover", "", "device"],
])("a source with %j, a destination with %j: it stays %s until it is cancelled", async (source, destination, state) => {
  await using at = lab();
  const { from, to, go } = await run(at, source, destination, [state]);
  expect(await go()).toBe(state);
  await sleep(60);
  expect(await from.qmp.execute("query-migrate")).toMatchObject({ status: state });
  expect(to.vm.runState).toBe("inmigrate");
  await from.qmp.execute("migrate_cancel");
  await from.qmp.event("MIGRATION", ({ status }) => status === "cancelled");
  expect(states(from)).toEqual(["running"]);
});

test.each([
  ["corrupt@round:1", ""],
  ["corrupt@switchover", ""],
  ["", "corrupt@round:1"],
  ["", "corrupt@loaded"],
])("a source with %j and a destination with %j: a page is wrong there, and only there", async (source, destination) => {
  await using at = lab();
  const { from, to, go } = await run(at, source, destination);
  expect(await go()).toBe("completed");
  expect([from.vm.check().wrong, to.vm.check().wrong]).toEqual([0, 1]);
});

test("what is refused fails once, and the next time works", async () => {
  await using at = lab();
  const { from, to, go } = await run(at, "refuse@setup&fail=refuse@switchover", "refuse@cont");
  await expect(go()).rejects.toThrow("migrate: Refused on purpose: fail=refuse@setup");
  await expect(go()).rejects.toThrow("migrate-continue: Refused on purpose: fail=refuse@switchover");
  await from.qmp.execute("migrate-continue", { state: "pre-switchover" });
  await from.qmp.event("MIGRATION", ({ status }) => status === "completed");
  await expect(to.qmp.execute("cont")).rejects.toThrow("refuse@cont");
  await to.qmp.execute("cont");
});

test("cont may kill, or never be answered", async () => {
  await using at = lab();
  const [dies, stalls] = [await at.start(`${VM}&fail=die@cont`), await at.start(`${VM}&fail=stall@cont`)];
  await expect(dies.qmp.execute("cont")).rejects.toThrow("closed its QMP connection");
  expect(await dies.vm.ended).toBe("killed");
  const answer = stalls.qmp.execute("cont").then(
    () => "answered",
    () => "closed",
  );
  expect(await Promise.race([answer, sleep(60, "silent")])).toBe("silent");
});

test("a destination that is late runs its guest before the source knows", async () => {
  await using at = lab();
  const { from, to, go } = await run(at, "", "late@loaded", ["device"]);
  await go();
  while (to.vm.runState !== "running") await sleep(1);
  await sleep(60);
  expect(await from.qmp.execute("query-migrate")).toMatchObject({ status: "device" });
});
