// QEMU's own post-copy through a tunnel, with its second connection: what it does not notice, and how whoever drives QEMU goes on
// after the rest. One guest moves on from test to test.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { QmpClient, QmpError } from "../../core/machines/qemu/qmp.ts";
import { type RunningCli, startCli } from "../support/cli.ts";
import { buildGuest, type Guest, readSerial, type Workload } from "../support/qemu/guest.ts";
import { configure } from "../support/qemu/migrate.ts";
import { missing } from "../support/qemu/required.ts";
import { startVm, type Vm } from "../support/qemu/vm.ts";
import { startRelay } from "../support/relay.ts";

const SLOW = 120_000;
const MIB = 2 ** 20;
/** So that much of the guest is missing for seconds. */
const RATE = ["--bandwidth", "8MB"];
const workload: Workload = { memory: 24, dirty: 8192, seed: 5, kind: "random" };
const CAPABILITIES = { events: true, "return-path": true, "postcopy-ram": true, "postcopy-preempt": true };
/** What a QEMU that waits for a page of its guest does all the same. */
const OUT_OF_BAND = { outOfBand: true, timeout: 5000 };

interface Machine {
  readonly vm: Vm;
  /** A connection from before the guest came, which does things out of band. */
  readonly qmp: QmpClient;
  /** How many events it had told before the guest was sent on from there. */
  sent: number;
}

let folder: string;
let guest: Guest;
let machines: AsyncDisposableStack;
/** Where the guest has been, in order; it runs on the last. */
const path: Machine[] = [];

async function startMachine(name: string, incoming: boolean): Promise<Machine> {
  const monitor = join(folder, `${name}.qmp`);
  const extra = ["-qmp", `unix:${monitor},server=on,wait=off`];
  const vm = machines.use(await startVm({ folder: join(folder, name), guest, workload, ram: 128, incoming, extra }));
  await configure(vm, CAPABILITIES, { "max-bandwidth": 2 ** 33 });
  const qmp = await QmpClient.connect(monitor, { signal: new AbortController().signal });
  machines.defer(() => qmp.close());
  return { vm, qmp, sent: 0 };
}

beforeAll(async () => {
  if (missing) return;
  folder = mkdtempSync(join(tmpdir(), "e2e-"));
  machines = new AsyncDisposableStack();
  guest = await buildGuest(join(folder, "guest"));
  path.push(await startMachine("vm0", false));
  await path[0]!.vm.until((text) => readSerial(text).passes >= 1, "first full check");
}, SLOW);

afterAll(async () => {
  if (missing) return;
  await machines?.disposeAsync();
  rmSync(folder, { recursive: true, force: true });
});

const unix = (name: string) => `unix:${join(folder, name)}`;

async function startReceiver(link: string, to: string): Promise<RunningCli> {
  const receiver = startCli(["receive", "--listen", link, "--json", "--service", `vm=${to}`]);
  await receiver.said(/"listening"/);
  return receiver;
}

async function startTunnel(link: string, from: string): Promise<RunningCli> {
  const tunnel = startCli(["tunnel", "--to", link, "--json", "--service", `vm=${from}`, ...RATE]);
  await tunnel.said(/"listening","service":"vm"/);
  return tunnel;
}

/** Sends the guest on until it runs on another machine, which lacks much of its memory. */
async function switchOver(out: string, into: string): Promise<{ source: Machine; target: Machine }> {
  const source = path.at(-1)!;
  const target = await startMachine(`vm${path.length}`, true);
  source.sent = source.vm.qmp.events;
  await target.vm.qmp.execute("migrate-incoming", { uri: into });
  await source.vm.qmp.execute("migrate", { uri: out });
  await source.vm.qmp.event("MIGRATION", ({ status }) => status === "active", source.sent);
  await source.vm.qmp.execute("migrate-start-postcopy");
  await target.vm.qmp.event("RESUME");
  path.push(target);
  return { source, target };
}

/** The statuses of each's migration from when the guest was sent on. */
async function arrived(...ends: Machine[]): Promise<string[][]> {
  const completed = ({ status }: Record<string, unknown>) => status === "completed";
  for (const { vm, sent } of ends) await vm.qmp.event("MIGRATION", completed, sent);
  const { vm } = path.at(-1)!;
  await vm.until((text) => readSerial(text).passes >= 2 || readSerial(text).wrong.length > 0, "full check");
  const { sequence, wrong } = readSerial(...path.map((each) => each.vm.serial()));
  expect(wrong).toEqual([]);
  expect(sequence).toEqual(sequence.map((_, index) => index + 1));
  const status = ({ event, data }: { event: string; data: Record<string, unknown> }) =>
    event === "MIGRATION" ? [String(data.status)] : [];
  return ends.map((each) => each.vm.qmp.history.slice(each.sent).flatMap(status));
}

const count = (statuses: readonly string[], wanted: string) => statuses.filter((status) => status === wanted).length;

/** Does what QEMU refuses before it has noticed that its stream is broken. */
async function untilDone(qmp: QmpClient, command: string, args: Record<string, unknown>): Promise<void> {
  for (const end = performance.now() + 10_000; ; await sleep(50)) {
    try {
      await qmp.execute(command, args, OUT_OF_BAND);
      return;
    } catch (error) {
      if (!(error instanceof QmpError) || performance.now() > end) throw error;
    }
  }
}

describe.skipIf(missing !== undefined)(`post-copy in a tunnel${missing ? ` (skipped: ${missing})` : ""}`, () => {
  test(
    "does not notice a link that is cut and made again",
    async () => {
      const [link, out, into] = [unix("link0"), unix("out0"), unix("in0")];
      await using receiver = await startReceiver(link, into);
      const relay = await startRelay({ to: link });
      await using tunnel = await startTunnel(relay.address, out);
      try {
        const { source, target } = await switchOver(out, into);
        relay.refuse(true);
        await relay.cut();
        for (const end of [tunnel, receiver]) await end.said(/"reconnecting"/);
        await sleep(500);
        relay.refuse(false);
        const statuses = await arrived(source, target);
        expect(statuses.map((each) => count(each, "postcopy-paused"))).toEqual([0, 0]);
      } finally {
        await relay.close();
      }
    },
    SLOW,
  );

  test.each([
    ["the tunnel's end at the source is killed", false],
    ["both ends of the tunnel are killed", true],
  ])(
    "goes on through another tunnel where %s",
    async (_, both) => {
      const number = path.length;
      const [link, out, into] = [unix(`link${number}`), unix(`out${number}`), unix(`in${number}`)];
      await using open = new AsyncDisposableStack();
      const receiver = open.use(await startReceiver(link, into));
      const tunnel = open.use(await startTunnel(link, out));
      const { source, target } = await switchOver(out, into);
      for (const end of both ? [tunnel, receiver] : [tunnel]) {
        end.kill("SIGKILL");
        await end.result;
      }
      if (both) open.use(await startReceiver(link, into));
      const again = open.use(await startTunnel(link, out));

      // A receiver that is still there waits for the old tunnel, and so does QEMU. One that has noticed refuses to be told.
      for (const { qmp } of [target, source])
        await qmp.execute("migrate-pause", {}, OUT_OF_BAND).catch((error) => expect(error).toBeInstanceOf(QmpError));
      await untilDone(target.qmp, "migrate-recover", { uri: into });
      await source.vm.qmp.event("MIGRATION", ({ status }) => status === "postcopy-paused", source.sent);
      await source.vm.qmp.execute("migrate", { uri: out, resume: true });
      const statuses = await arrived(source, target);
      expect(statuses.map((each) => count(each, "postcopy-recover"))).toEqual([1, 1]);
      again.kill("SIGTERM");
      const { bytes } = (await again.result).events().at(-1) as { bytes: Record<string, number> };
      // The stream that goes on was seen as what it is, though it announces nothing.
      expect(bytes.plain!).toBeGreaterThan(24 * MIB);
      expect(bytes.literal!).toBeLessThan(bytes.plain! / 20);
    },
    SLOW,
  );
});
