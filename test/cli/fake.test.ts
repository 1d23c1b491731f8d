// The command runs a fake VM until it is told to end, and says what happens to it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cli, startCli } from "../support/cli.ts";
import { connectQmp } from "../support/qemu/qmp.ts";

let folder: string;
const path = (name: string) => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "fake-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (...args: string[]) => startCli(["fake", ...args], { cwd: folder });
/** Ends processes with the test, however that ends. */
function ending(): AsyncDisposable[] & AsyncDisposable {
  const ends: AsyncDisposable[] = [];
  const dispose = async () => {
    for (const end of ends) await end[Symbol.asyncDispose]();
  };
  return Object.assign(ends, { [Symbol.asyncDispose]: dispose });
}
const events = { capabilities: ["events", "return-path"].map((capability) => ({ capability, state: true })) };

/** Migrates a guest between two processes of these options, which end with the caller's `ends`. */
async function migrate(ends: AsyncDisposable[], source: string[], destination: string[]) {
  const from = run("web", "--memory", "4M", "--dirty", "1M", "--qmp", "from", "--json", ...source);
  const to = run(
    "web?memory=4M",
    "--qmp",
    `unix:${path("to")},server=on,wait=off`,
    "--json",
    "--check",
    ...destination,
  );
  ends.push(from, to);
  await Promise.all([from.said(/"ready"/), to.said(/"ready"/)]);
  const qmp = await connectQmp(path("from"));
  await qmp.execute("migrate-set-capabilities", events);
  await qmp.execute("migrate", { uri: `unix:${path("in")}` });
  await qmp.event("MIGRATION", ({ status }) => status === "completed" || status === "failed").catch(() => {});
  return { from, to, qmp };
}

test("two processes pass a guest on, which is checked where it comes in", async () => {
  await using ends = ending();
  const { from, to, qmp } = await migrate(ends, [], ["-S", "--incoming", `unix:${path("in")}`]);
  await qmp.execute("quit");
  const left = await from.result;
  expect([left.code, left.stderr]).toEqual([0, ""]);
  const sequence = left.events().at(-1)!.sequence;
  expect(left.events()).toEqual([
    { type: "ready", name: "web", qmp: "from", status: "running" },
    { type: "stopped", sequence, at: expect.any(Number) },
    { type: "migrated", direction: "out", ok: true, status: "completed", sequence },
    { type: "summary", ok: true, name: "web", sequence, seconds: expect.any(Number) },
  ]);
  await to.said(/"check"/);
  to.kill("SIGTERM");
  const arrived = await to.result;
  expect(arrived.code).toBe(143);
  expect(arrived.events()).toEqual([
    { type: "ready", name: "web", qmp: path("to"), status: "inmigrate" },
    { type: "migrated", direction: "in", ok: true, status: "completed", sequence },
    { type: "check", pages: 1344, wrong: 0 },
    { type: "summary", ok: true, name: "web", sequence, seconds: expect.any(Number) },
  ]);
  expect(["from", "to", "in"].filter((name) => existsSync(path(name)))).toEqual([]);
});

test("a wrong page ends the command with exit code 6, a fault to die by SIGKILL", async () => {
  await using ends = ending();
  const { to, qmp } = await migrate(ends, ["--fail", "corrupt@switchover"], ["--incoming", `unix:${path("in")}`]);
  const arrived = await to.result;
  expect([arrived.code, arrived.stderr]).toEqual([6, 'shrinker: 1 of 1344 pages of "web" are wrong\n']);
  expect(arrived.events()).toContainEqual({ type: "check", pages: 1344, wrong: 1 });
  qmp.close();

  await using killed = run("web", "--memory", "1M", "--qmp", "killed", "--fail", "die@cont");
  await killed.said(/QMP at killed/);
  const other = await connectQmp(path("killed"));
  await expect(other.execute("cont")).rejects.toThrow("closed");
  await killed.result;
  expect([killed.child.signalCode, killed.child.exitCode]).toEqual(["SIGKILL", null]);
});

test.each([
  [2, "Name one fake VM", []],
  [2, "Give --qmp PATH", ["web"]],
  [2, 'memory of fake VM "web": Cannot parse "1Q"', ["web", "--qmp", "q", "--memory", "1Q"]],
  [2, "Unknown parameter", ["web?ram=1M", "--qmp", "q"]],
  [2, "unknown migration protocol: ftp:x", ["web", "--qmp", "q", "--incoming", "ftp:x"]],
  [3, 'no folder "no"', ["web", "--qmp", "no/q"]],
] as const)("exit code %d: %s", async (code, message, args) => {
  const result = await cli(["fake", ...args], { cwd: folder });
  expect(result.stderr).toContain(message);
  expect([result.code, result.stdout.toString()]).toEqual([code, ""]);
});
