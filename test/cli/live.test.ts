// Guests that run, moved between processes: fake ones in them, and ones of this process that the commands reach by QMP.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FakeVm, startFake } from "../../core/machines/fake/fake-vm.ts";
import { parseFault } from "../../core/machines/fake/faults.ts";
import { type FakeSpec, fakeSpec } from "../../core/machines/fake/spec.ts";
import { cli, type RunningCli, SHELL_COMMAND, startCli } from "../support/cli.ts";
import { within } from "../support/session.ts";

const MIB = 1 << 20;
let folder: string;
let runs = 0;
const vms: FakeVm[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "live-"));
});
afterAll(async () => {
  for (const vm of vms) await vm.close();
  rmSync(folder, { recursive: true });
});

interface Event {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** Folders for a run of its own, and commands that use them. */
function site() {
  const path = (name: string) => join(folder, `${runs}-${name}`);
  runs++;
  const [a, b, link] = [path("a"), path("b"), `unix:${path("link")}`];
  // What is killed leaves the folder of its sockets here.
  const env = { XDG_RUNTIME_DIR: folder };
  return {
    ...{ a, b, link, path },
    async receive(...args: string[]): Promise<RunningCli> {
      const receiver = startCli(["receive", "--listen", link, "--state", b, "--json", ...args], { env });
      await receiver.said(/"listening"/);
      return receiver;
    },
    migrate: (...args: string[]) => startCli(["migrate", ...args, "--to", link, "--state", a, "--json"], { env }),
    /** Journals and locks that are left. */
    left: () => [a, b].flatMap((state) => readdirSync(join(state, "migrations"))),
    async fake(name: string, incoming: boolean, given: Partial<FakeSpec> = {}) {
      const qmp = path(`${name}${incoming ? "-in" : ""}`);
      const vm = await startFake(fakeSpec(name, { memory: 4 * MIB, ...given }), { qmpPath: qmp, incoming });
      vms.push(vm);
      return { vm, qmp };
    },
  };
}

async function end(running: RunningCli) {
  const { code, stderr, events } = await running.result;
  return { code, stderr, events: events() as Event[] };
}
const ofType = (events: readonly Event[], type: string) => events.filter((event) => event.type === type);

test("fake guests move, and their memory is right", async () => {
  const here = site();
  await using receiver = await here.receive("--vm", "web=fake:", "--vm", "db=fake:", "--once");
  await using mover = here.migrate("fake:web?memory=8M", "db=fake:other?memory=4M&seed=2");
  const sent = await end(mover);
  const received = await end(receiver);
  expect([sent.code, received.code, sent.stderr, received.stderr]).toEqual([0, 0, "", ""]);
  expect(
    ofType(sent.events, "moved")
      .map(({ name }) => name)
      .sort(),
  ).toEqual(["db", "web"]);
  const phases = ofType(sent.events, "guest").filter(({ name }) => name === "web");
  expect(phases.map(({ phase }) => phase)).toEqual(["prepare", "perform", "finish", "confirm"]);
  expect(sent.events.at(-1)).toMatchObject({ type: "summary", ok: true });
  const checks = ofType(received.events, "check");
  expect(checks.map(({ wrong }) => wrong)).toEqual([0, 0]);
  expect(checks.every(({ sequence, pages }) => Number(sequence) > 0 && Number(pages) > 1000)).toBe(true);
  expect(received.events.at(-1)).toMatchObject({ guests: [{ landed: true }, { landed: true }] });
  expect(here.left()).toEqual([]);
});

test("what a QEMU prints as it dies is told, and the guest stays", async () => {
  const here = site();
  const source = await here.fake("web", false);
  // QEMU's options behind it: -S -incoming defer -qmp unix:PATH,...
  const fake = `${SHELL_COMMAND} fake web --memory 4M --fail die@round:1 -S --incoming "$3" --qmp "$5"`;
  const place = `launch:dies() { ${fake} >/dev/null; echo "no device 'nvme'" >&2; exit 1; }; dies`;
  await using receiver = await here.receive("--vm", `web=${place}`, "--once");
  await using mover = here.migrate(`qmp:${source.qmp}`);
  const sent = await end(mover);
  const received = await end(receiver);
  expect([sent.code === 0, source.vm.runState]).toEqual([false, "running"]);
  expect(received.stderr).toMatch(/; it said: .*no device 'nvme'/);
  expect(here.left()).toEqual([]);
});

test("a guest whose QEMU dies before it has moved is told to run nowhere", async () => {
  const here = site();
  const source = await here.fake("web", false, { faults: [parseFault("die@round:2")] });
  await using receiver = await here.receive("--vm", "web=fake:", "--once");
  await using mover = here.migrate(`qmp:${source.qmp}`);
  const sent = await end(mover);
  expect(sent.code).not.toBe(0);
  expect(ofType(sent.events, "failed")).toMatchObject([{ name: "web", where: "nowhere" }]);
  expect(sent.stderr).toContain('The QEMU of "web" has ended at the source: start the guest again');
  expect((await end(receiver)).code).not.toBe(0);
  expect(here.left()).toEqual([]);
});

test("a page that is wrong where a fake guest arrives is told", async () => {
  const here = site();
  await using receiver = await here.receive("--vm", "web=fake:", "--once");
  await using mover = here.migrate("fake:web?memory=4M&fail=corrupt@round:1");
  expect((await end(mover)).code).toBe(0);
  const { code, stderr } = await end(receiver);
  expect([code, stderr]).toEqual([6, 'shrinker: 1 of 1344 pages of "web" are wrong\n']);
});

test("a guest that is not expected stays, and keeps no other from moving", async () => {
  const here = site();
  const { vm, qmp } = await here.fake("db", false);
  await using receiver = await here.receive("--vm", "web=fake:", "--once");
  await using mover = here.migrate("fake:web?memory=4M", `qmp:${qmp}`);
  const sent = await end(mover);
  expect([sent.code, vm.runState]).toEqual([9, "running"]);
  expect(sent.stderr).toContain(
    '1 of 2 guests have moved, "db" did not: The destination says: No guest "db" is expected',
  );
  const received = await end(receiver);
  expect(received.code).toBe(9);
  expect(here.left()).toEqual([]);
});

test("a guest moves by QMP; where its place has another memory it stays", async () => {
  const here = site();
  const source = await here.fake("web", false);
  const small = await here.fake("web", true, { memory: 8 * MIB });
  await using receiver = await here.receive("--vm", `web=qmp:${small.qmp}`);
  const refused = await end(here.migrate(`qmp:${source.qmp}`));
  expect([refused.code, source.vm.runState]).toEqual([4, "running"]);
  expect(refused.stderr).toContain("start that QEMU with -m 4");
  await small.vm.close();
  const copy = await startFake(fakeSpec("web", { memory: 4 * MIB }), { qmpPath: small.qmp, incoming: true });
  vms.push(copy);
  const moved = await end(here.migrate(`qmp:${source.qmp}`));
  expect([moved.code, source.vm.runState, copy.runState]).toEqual([0, "shutdown", "running"]);
  const { sequence } = copy;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([copy.sequence > sequence, copy.check().wrong]).toEqual([true, 0]);
  receiver.kill("SIGTERM");
  expect((await end(receiver)).code).toBe(143);
  expect(here.left()).toEqual([]);
});

/** Slower than it writes: it is never copied. */
const RESTLESS = { dirty: 64 * MIB, private: 3 * MIB, zero: 0 };
const SLOWLY = ["--bandwidth", "2MB", "--downtime-limit", "1ms"];

test("a user who ends it has the guest back, and the destination told", async () => {
  const here = site();
  const source = await here.fake("web", false, RESTLESS);
  const copy = await here.fake("web", true);
  await using receiver = await here.receive("--vm", `web=qmp:${copy.qmp}`);
  // Its first round alone takes longer than all of this, however busy the machine.
  await using mover = here.migrate(`qmp:${source.qmp}`, "--bandwidth", "100kB");
  await mover.said(/"type":"round"/);

  // Meanwhile nobody else may.
  const second = await end(here.migrate(`qmp:${source.qmp}`));
  expect([second.code, second.stderr]).toEqual([4, expect.stringContaining("Another process works on the migration")]);
  const resolved = await cli(["resolve", "web", "--as", "source", "--state", here.a]);
  expect([resolved.code, resolved.stderr]).toEqual([
    4,
    expect.stringContaining("Another process works on the migration"),
  ]);
  const listed = await cli(["list", "--migrations", "--state", here.a]);
  expect(listed.stdout.toString()).toMatch(/^web +source +begun +.* UTC +is here$/m);

  mover.kill("SIGINT");
  const { code } = await end(mover);
  expect([code, source.vm.runState]).toEqual([130, "running"]);
  await receiver.said(/"state":"ended","code":"cancelled"/);
  expect([copy.vm.runState, here.left()]).toEqual(["shutdown", []]);
}, 60_000);

test("movers and receivers that are killed: the guest runs on here, and moves when it is tried again", async () => {
  const here = site();
  const source = await here.fake("web", false, RESTLESS);
  let copy = await here.fake("web", true);
  const vm = ["--vm", `web=qmp:${copy.qmp}`];
  const again = async () => {
    await copy.vm.close();
    copy = await here.fake("web", true);
  };
  const start = source.vm.parts.run.start.bind(source.vm.parts.run);
  const both: string[] = [];
  source.vm.parts.run.start = () => {
    if (copy.vm.runState === "running") both.push("two run");
    start();
  };

  const first = await here.receive(...vm);
  const killed = here.migrate(`qmp:${source.qmp}`, ...SLOWLY);
  await killed.said(/"type":"round"/);
  killed.kill("SIGKILL");
  await killed.result;
  // Its guardian sees to it that it runs; here it does so all the time.
  const guarded = async () => {
    for (let listed = ""; !listed.includes("aborted"); ) {
      const { stdout } = await cli(["list", "--migrations", "--state", here.a]);
      listed = stdout.toString();
    }
  };
  await within(guarded(), "guardian");
  expect(source.vm.runState).toBe("running");

  // The receiver still has what the next one is to have dropped; then it dies itself.
  const next = here.migrate(`qmp:${source.qmp}`, ...SLOWLY, "--timeout", "60s");
  await first.said(/"state":"ended"/);
  // Its QEMU has been ended with the copy.
  expect((await end(next)).code).toBe(3);
  first.kill("SIGKILL");
  await first.result;
  await again();
  rmSync(here.path("link"), { force: true });

  await using second = await here.receive(...vm);
  const last = here.migrate(`qmp:${source.qmp}`, "--on-timeout", "stop", "--timeout", "100ms", "--bandwidth", "20MB");
  const { code, stderr } = await end(last);
  expect([code, stderr, both]).toEqual([0, "", []]);
  expect([source.vm.runState, copy.vm.runState, copy.vm.check().wrong]).toEqual(["shutdown", "running", 0]);
  second.kill("SIGTERM");
  await second.result;
  expect(here.left()).toEqual([]);
}, 60_000);

test.each([
  [["fake:web", "--no-state"], "Guests that run need a journal"],
  [["fake:web", "--on-timeout", "never"], "expected one of cancel, stop, postcopy"],
  [["fake:web", "--on-timeout", "postcopy"], "give that as well, such as --timeout 30s"],
  [["fake:web", "disk.raw"], "is a file, and others are guests that run"],
  [["fake:web", "fake:web"], 'Two guests are called "web"'],
  [["qmp:/nowhere", "qmp:/nowhere"], "is named twice"],
  [["fake:"], 'Nothing behind "fake:"'],
  [["fake:web", "--dry-run"], "--dry-run is for machines that are files"],
  [["fake:web", "--no-sign"], "--no-sign is for machines that are files"],
  [["fake:web?memory=1"], "memory is 1 bytes"],
])("usage: migrate %p", async (args, message) => {
  const here = site();
  const { code, stderr } = await end(here.migrate(...args));
  expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
});

test("a fake guest does not switch to post-copy, and there is nothing to recover of it", async () => {
  const here = site();
  const source = await here.fake("web", false);
  await using receiver = await here.receive("--vm", "web=fake:");
  await using mover = here.migrate(`qmp:${source.qmp}`, "--timeout", "1s", "--on-timeout", "postcopy");
  const { code, events } = await end(mover);
  expect([code, events.at(-1)!.guests, source.vm.runState]).toEqual([
    4,
    [{ name: "web", where: "source", error: { code: "refused", message: expect.stringContaining("userfaultfd") } }],
    "running",
  ]);
  await using again = here.migrate(`qmp:${source.qmp}`, "--recover");
  expect(await end(again)).toMatchObject({ code: 3, stderr: expect.stringContaining("nothing to recover of") });
  receiver.kill("SIGTERM");
  await receiver.result;
  expect(here.left()).toEqual([]);
});

test.each([["web=fake:?memory=1M"], ["web"], ["web=qmp:"], ["web=tcp:x"]])("usage: receive --vm %s", async (vm) => {
  const { code, stderr } = await cli(["receive", "--listen", "unix:/nowhere/x", "--vm", vm, "--state", folder]);
  expect([code, stderr]).toEqual([2, expect.stringContaining("expected NAME=qmp:SOCKET")]);
});
