// A fake VM answers as the real QEMU does: the same keys and types, the same errors, the same events in the same order.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { COMMANDS } from "../../core/machines/fake/commands.ts";
import { startFake } from "../../core/machines/fake/fake-vm.ts";
import { fakeSpec } from "../../core/machines/fake/spec.ts";
import { buildGuest, type Guest } from "../support/qemu/guest.ts";
import { connectQmp, type Qmp } from "../support/qemu/qmp.ts";
import { missing } from "../support/qemu/required.ts";
import { startVm } from "../support/qemu/vm.ts";

const SLOW = 60_000;
const MIB = 2 ** 20;

let folder: string;
let guest: Guest;
const path = (...names: string[]) => join(folder, ...names);

interface Ends extends AsyncDisposable {
  readonly source: Qmp;
  readonly destination: Qmp;
  /** Where the guest is to come in. */
  readonly socket: string;
}

async function realEnds(): Promise<Ends> {
  const disk = (name: string) => [
    ...["-blockdev", `driver=file,node-name=f0,filename=${path(name)}`, "-blockdev", "driver=raw,node-name=d0,file=f0"],
    ...["-device", "virtio-blk-pci,drive=d0,id=vd0", "-name", "web"],
  ];
  const workload = { memory: 16, dirty: 4096, seed: 1, kind: "text" } as const;
  const start = (name: string, incoming: boolean) => {
    writeFileSync(path(`${name}.raw`), "");
    truncateSync(path(`${name}.raw`), MIB);
    return startVm({ folder: path(name), guest, workload, ram: 128, incoming, extra: disk(`${name}.raw`) });
  };
  const [from, to] = [await start("from", false), await start("to", true)];
  const stop = async () => {
    await from.kill();
    await to.kill();
  };
  return { source: from.qmp, destination: to.qmp, socket: path("real.in"), [Symbol.asyncDispose]: stop };
}

async function fakeEnds(): Promise<Ends> {
  const spec = fakeSpec("web", { memory: 128 * MIB, disk: MIB });
  const vms = [
    await startFake(spec, { qmpPath: path("from.qmp") }),
    await startFake(spec, { qmpPath: path("to.qmp"), incoming: true }),
  ];
  const [source, destination] = [await connectQmp(path("from.qmp")), await connectQmp(path("to.qmp"))];
  const stop = async () => {
    for (const vm of vms) await vm.close();
  };
  return { source, destination, socket: path("fake.in"), [Symbol.asyncDispose]: stop };
}

/** What a reply looks like: the types under sorted keys; of a list the shapes that its items have. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return [...new Set(value.map((item) => JSON.stringify(shape(item))))].sort();
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, part]) => [key, shape(part)]),
  );
}

const QUERIES = [...COMMANDS.keys()].filter((name) => name.startsWith("query-") && name !== "query-commands");
const capabilities = (...on: string[]) => ({ capabilities: on.map((capability) => ({ capability, state: true })) });
const CAPABILITIES = capabilities("events", "return-path", "pause-before-switchover", "late-block-activate");
/** What both refuse, and neither changes anything by. */
const WRONG: [string, object][] = [
  ["nonsense", {}],
  ["query-status", { x: 1 }],
  ["qom-get", { path: "/nope", property: "type" }],
  ["migrate", {}],
  ["migrate", { uri: 3 }],
  ["migrate", { uri: "foo" }],
  ["migrate-incoming", { uri: "unix:/nowhere" }],
  ["migrate-continue", { state: "foo" }],
  ["migrate-pause", {}],
  ["migrate-start-postcopy", {}],
  ["migrate-recover", { uri: "unix:/nowhere" }],
  ["migrate-set-capabilities", { capabilities: 7 }],
  ["migrate-set-capabilities", { capabilities: [{ capability: "events" }] }],
  ["migrate-set-capabilities", capabilities("nope")],
  ["migrate-set-parameters", { "max-bandwidth": "x" }],
  ["migrate-set-parameters", { "max-bandwidth": 1.5 }],
  ["migrate-set-parameters", { "downtime-limit": 99_999_999 }],
  ["migrate-set-parameters", { "cpu-throttle-initial": 1000 }],
  ["migrate-set-parameters", { "multifd-channels": 0 }],
  ["migrate-set-parameters", { nope: 1 }],
];

/** Takes a guest over, as a tool does, and writes down all that the two ends say on the way. */
async function observe({ source, destination, socket }: Ends): Promise<Record<string, unknown>> {
  const seen: Record<string, unknown> = {};
  const note = async (name: string, qmp: Qmp, command: string, given?: object) => {
    seen[name] = await qmp.execute(command, given as Record<string, unknown>).then(shape, (error) => String(error));
  };
  const status = async (when: string) => {
    seen[`status ${when}`] = [await source.execute("query-status"), await destination.execute("query-status")];
  };
  const commands = await source.execute<{ name: string }[]>("query-commands");
  const names = new Set(commands.map(({ name }) => name));
  seen.commands = [...COMMANDS.keys(), "qmp_capabilities"].filter((name) => !names.has(name));
  for (const query of QUERIES) await note(query, source, query);
  seen.defaults = await source.execute("query-migrate-parameters");
  seen.capabilities = await source.execute("query-migrate-capabilities");
  seen.disks = (await source.execute<object[]>("query-block")).length;
  for (const [index, [command, given]] of WRONG.entries()) await note(`wrong ${index}`, source, command, given);
  for (const path of ["/machine", "/machine/unattached/device[0]"])
    await note(`type of ${path}`, source, "qom-get", { path, property: "type" });
  await status("before");
  for (const qmp of [source, destination]) await note("set", qmp, "migrate-set-capabilities", CAPABILITIES);
  await source.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 40 });
  await destination.execute("stop");
  await destination.execute("migrate-incoming", { uri: `unix:${socket}` });
  await note("waiting", destination, "query-migrate");
  await note("migrate while waiting", destination, "migrate", { uri: `unix:${socket}` });
  await note("again", destination, "migrate-incoming", { uri: `unix:${socket}2` });
  const before = { source: source.events, destination: destination.events };
  await source.execute("migrate", { uri: `unix:${socket}` });
  await note("capabilities meanwhile", source, "migrate-set-capabilities", CAPABILITIES);
  await source.event("MIGRATION", (data) => data.status === "pre-switchover");
  await note("source in pre-switchover", source, "query-migrate");
  await note("destination in pre-switchover", destination, "query-migrate");
  await note("cont too early", source, "cont");
  await note("continue from elsewhere", source, "migrate-continue", { state: "device" });
  await status("in pre-switchover");
  await source.execute("migrate-continue", { state: "pre-switchover" });
  await source.event("MIGRATION", (data) => data.status === "completed", before.source);
  await destination.event("MIGRATION", (data) => data.status === "completed", before.destination);
  // QEMU tells of the end before it has left `finish-migrate`.
  for (let looks = 0; looks < 500; looks++) {
    const { status } = await source.execute<{ status: string }>("query-status");
    if (status !== "finish-migrate") break;
    await sleep(20);
  }
  await note("source at the end", source, "query-migrate");
  await note("destination at the end", destination, "query-migrate");
  await status("at the end");
  await note("once more", source, "migrate", { uri: `unix:${socket}` });
  await destination.execute("cont");
  await destination.event("RESUME", undefined, before.destination);
  await status("after cont");
  seen.source = await states(source, before.source);
  seen.destination = await states(destination, before.destination);
  return seen;
}

/** The states of the migration, as events told them. */
async function states(qmp: Qmp, after: number): Promise<unknown[]> {
  const list: unknown[] = [];
  const isLast = ({ status }: Record<string, unknown>) => list.push(status) > 0 && status === "completed";
  await qmp.event("MIGRATION", isLast, after);
  return list;
}

describe.skipIf(missing !== undefined)(`a fake VM${missing ? ` (skipped: ${missing})` : ""}`, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "e2e-"));
    guest = await buildGuest(join(folder, "guest"));
  }, SLOW);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test(
    "says what QEMU says, from the first query to the end of a migration",
    async () => {
      await using real = await realEnds();
      await using fake = await fakeEnds();
      const [theirs, ours] = [await observe(real), await observe(fake)];
      expect(ours).toEqual(theirs);
      // So that it can't be right because nothing was seen.
      expect(ours).toMatchObject({ commands: [], disks: 1, "wrong 3": expect.stringContaining("need either") });
      expect(ours["source at the end"]).toMatchObject({ status: "string", ram: { "normal-bytes": "number" } });
      expect(ours.destination).toEqual(["active", "completed"]);
    },
    SLOW,
  );
});
