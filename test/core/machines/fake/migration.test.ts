// Fake VMs migrate as QEMU does, told so by QMP alone.
import { describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createQemuSegmenter } from "../../../../core/segment/qemu.ts";
import { enable, type Lab, lab, migrate, names, type Started } from "./support.ts";

const SMALL = "vm?memory=8M&dirty=4M&working-set=1M&private=2M";
type Text = string;
interface Answer {
  status: Text;
  ram: Record<string, number>;
  "error-desc"?: Text;
}

/** A source, and a destination that waits at `in` with the same capabilities. */
async function pair(at: Lab, from = SMALL, to = SMALL, ...capabilities: string[]): Promise<[Started, Started]> {
  const source = await at.start(from);
  const destination = await at.start(to, { incoming: true });
  for (const one of [source, destination]) await enable(one, ...capabilities);
  await destination.qmp.execute("migrate-incoming", { uri: `unix:${at.path("in")}` });
  return [source, destination];
}
const status = ({ qmp }: Started) => qmp.execute<{ status: string; running: boolean }>("query-status");
const progress = ({ qmp }: Started) => qmp.execute<Answer>("query-migrate");

test("a guest goes on where it was, with all of its memory, and the stream is QEMU's", async () => {
  await using at = lab();
  const [source, destination] = await pair(at, SMALL, SMALL, "pause-before-switchover");
  const relay = await at.relay(at.path("in"));
  await source.qmp.execute("migrate-set-parameters", { "max-bandwidth": 20e6, "downtime-limit": 20 });
  expect(await migrate(source, relay.path, "pre-switchover")).toBe("pre-switchover");
  expect(await status(source)).toEqual({ status: "finish-migrate", running: false });
  expect(await status(destination)).toEqual({ status: "inmigrate", running: false });
  await source.qmp.execute("migrate-continue", { state: "pre-switchover" });
  await source.qmp.event("MIGRATION", (data) => data.status === "completed");

  expect([await status(source), await status(destination)]).toEqual([
    { status: "postmigrate", running: false },
    { status: "running", running: true },
  ]);
  const left = source.vm.sequence;
  expect(left).toBeGreaterThan(5);
  await sleep(50);
  expect(source.vm.sequence).toBe(left);
  expect(destination.vm.sequence).toBeGreaterThan(left);
  for (const { vm } of [source, destination]) expect(vm.check()).toEqual({ pages: 2368, wrong: 0 });
  const { ram } = await progress(source);
  expect(ram["dirty-sync-count"]).toBeGreaterThan(2);
  expect(names(destination.vm)).toEqual(["MIGRATION setup", "MIGRATION active", "RESUME", "MIGRATION completed"]);
  expect(names(source.vm).filter((name) => !name.startsWith("MIGRATION_PASS"))).toEqual(
    ["RESUME", "setup", "active", "STOP", "pre-switchover", "device", "completed"].map((name) =>
      /[A-Z]/.test(name) ? name : `MIGRATION ${name}`,
    ),
  );
  expect(Buffer.concat(relay.back).toString("hex")).toBe("00020004000000010001000400000000");

  const stream = Buffer.concat(relay.forth);
  const seen = new Set<string>();
  const segmenter = createQemuSegmenter({ section: ({ name }) => name && seen.add(name) });
  segmenter.push(stream, 0, stream.length, { literal() {}, chunk() {}, zero() {} });
  const { state, lost, pages, zeroRecords, blocks } = segmenter.statistics();
  // As of any pre-copy stream: devices state no length, so it is followed up to the first one.
  expect([state, lost, [...seen]]).toEqual(["devices", undefined, ["ram", "fake"]]);
  expect(blocks.map(({ name }) => name)).toEqual(["pc.ram", "0000:00:02.0/vga.vram", "pc.bios"]);
  expect({ pages, zeroRecords, bytes: stream.length }).toEqual({
    pages: ram.normal!,
    zeroRecords: ram.duplicate!,
    bytes: ram.transferred!,
  });
});

describe("an incoming guest", () => {
  // QEMU 10 does the same in each of these cases; `sent` is the source's state, `told` a command while it waits.
  test.each([
    { sent: "running", paused: false, told: "nothing", becomes: "running" },
    { sent: "running", paused: true, told: "nothing", becomes: "paused" },
    { sent: "running", paused: false, told: "stop", becomes: "paused" },
    { sent: "running", paused: true, told: "cont", becomes: "running" },
    { sent: "paused", paused: false, told: "nothing", becomes: "paused" },
    { sent: "prelaunch", paused: false, told: "nothing", becomes: "prelaunch" },
  ])("that was $sent, with -S $paused and told $told, is $becomes", async ({ sent, paused, told, becomes }) => {
    await using at = lab();
    const source = await at.start("vm?memory=1M", { paused: sent === "prelaunch" });
    const destination = await at.start("vm?memory=1M", { paused, incoming: `unix:${at.path("in")}` });
    await enable(source);
    if (sent === "paused") await source.qmp.execute("stop");
    if (told !== "nothing") await destination.qmp.execute(told);
    expect(await migrate(source, at.path("in"))).toBe("completed");
    expect(await status(destination)).toEqual({ status: becomes, running: becomes === "running" });
    await destination.qmp.execute("cont");
    expect((await status(destination)).running).toBe(true);
  });

  test("comes over TCP, without a return path, and can go on to a third", async () => {
    await using at = lab();
    const [one, two] = [await at.start(SMALL), await at.start(SMALL, { incoming: "tcp:127.0.0.1:0" })];
    const third = await at.start(SMALL, { incoming: `unix:${at.path("third")}` });
    const waiting = await two.qmp.execute<{ "socket-address": { port: string; type: string }[] }>("query-migrate");
    const { port, type } = waiting["socket-address"][0]!;
    expect(type).toBe("inet");
    await one.qmp.execute("migrate-set-capabilities", { capabilities: [{ capability: "events", state: true }] });
    const addr = { transport: "socket", type: "inet", host: "127.0.0.1", port };
    await one.qmp.execute("migrate", { channels: [{ "channel-type": "main", addr }] });
    await one.qmp.event("MIGRATION", (data) => data.status === "completed");
    while (two.vm.runState !== "running") await sleep(1);
    await enable(two);
    expect(await migrate(two, at.path("third"))).toBe("completed");
    expect(third.vm.check()).toEqual({ pages: 2368, wrong: 0 });
    expect(third.vm.sequence).toBeGreaterThanOrEqual(one.vm.sequence);
  });

  test("that can't be loaded ends its VM, unless it is told not to", async () => {
    await using at = lab();
    const [source, destination] = await pair(at, "vm?memory=1M", "vm?memory=2M");
    expect(await migrate(source, at.path("in"))).toBe("failed");
    expect(await destination.vm.ended).toMatchObject({
      code: "integrity",
      message: expect.stringContaining("Size mismatch: pc.ram"),
    });
    expect((await status(source)).running).toBe(true);

    const patient = await at.start("vm?memory=2M", { incoming: true });
    const where = { uri: `unix:${at.path("patient")}`, "exit-on-error": false };
    await patient.qmp.execute("migrate-incoming", where);
    await migrate(source, at.path("patient"));
    expect(await progress(patient)).toMatchObject({ status: "failed", "error-desc": expect.stringContaining("Size") });
    expect(await status(patient)).toEqual({ status: "inmigrate", running: false });
  });
});

test("a guest that is stopped while it is sent arrives stopped", async () => {
  await using at = lab();
  const [source, destination] = await pair(at);
  await source.qmp.execute("migrate-set-parameters", { "max-bandwidth": 10e6 });
  expect(await migrate(source, at.path("in"), "active")).toBe("active");
  await source.qmp.execute("stop");
  await source.qmp.event("MIGRATION", (data) => data.status === "completed");
  expect([source.vm.runState, destination.vm.runState]).toEqual(["postmigrate", "paused"]);
  expect(destination.vm.check().wrong).toBe(0);
});

describe("an outgoing guest runs on", () => {
  test("when it is cancelled in pre-switchover, and can be sent again", async () => {
    await using at = lab();
    const [source, destination] = await pair(at, SMALL, SMALL, "pause-before-switchover");
    await migrate(source, at.path("in"), "pre-switchover");
    await source.qmp.execute("migrate_cancel");
    await source.qmp.event("MIGRATION", (data) => data.status === "cancelled");
    expect((await status(source)).running).toBe(true);
    expect((await progress(source)).status).toBe("cancelled");
    expect(await destination.vm.ended).toMatchObject({ code: "link" });
    const other = await at.start(SMALL, { incoming: `unix:${at.path("other")}` });
    await migrate(source, at.path("other"), "pre-switchover");
    await source.qmp.execute("migrate-continue", { state: "pre-switchover" });
    await source.qmp.event("MIGRATION", (data) => data.status === "completed");
    expect(other.vm.check().wrong).toBe(0);
  });

  test("when the link is cut in pre-switchover, which QEMU only notices when it goes on", async () => {
    await using at = lab();
    const [source] = await pair(at, SMALL, SMALL, "pause-before-switchover");
    const relay = await at.relay(at.path("in"));
    await migrate(source, relay.path, "pre-switchover");
    relay.cut();
    await sleep(30);
    expect((await progress(source)).status).toBe("pre-switchover");
    await source.qmp.execute("migrate-continue", { state: "pre-switchover" });
    await source.qmp.event("MIGRATION", (data) => data.status === "failed");
    expect([(await status(source)).running, source.vm.check().wrong]).toEqual([true, 0]);
  });

  test("when nobody is there", async () => {
    await using at = lab();
    const source = await at.start("vm?memory=1M");
    await enable(source);
    expect(await migrate(source, at.path("nothing"))).toBe("failed");
    const said = `Failed to connect to '${at.path("nothing")}': No such file or directory`;
    expect(await progress(source)).toEqual({ status: "failed", "error-desc": said } as unknown as Answer);
  });
});

test("a peer that does not read holds the stream back, not the guest", async () => {
  await using at = lab();
  const source = await at.start("vm?memory=64M&zero=0&pattern=random");
  await enable(source);
  await source.qmp.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 40 });
  const peers: net.Socket[] = [];
  const server = net.createServer((socket) => peers.push(socket.pause()));
  await new Promise<void>((resolve) => server.listen(at.path("deaf"), resolve));
  await migrate(source, at.path("deaf"), "active");
  await sleep(150);
  const [first, sequence] = [(await progress(source)).ram.transferred!, source.vm.sequence];
  await sleep(100);
  const { status: still, ram } = await progress(source);
  expect({ still, sent: ram.transferred! - first }).toEqual({ still: "active", sent: 0 });
  expect(first).toBeLessThan(2 ** 20);
  expect(source.vm.sequence).toBeGreaterThan(sequence + 2);
  for (const peer of peers) peer.destroy();
  await source.qmp.event("MIGRATION", (data) => data.status === "failed");
  server.close();
  rmSync(at.path("deaf"), { force: true });
});

test("max-bandwidth is honoured, and rounds ends a migration that never would", async () => {
  await using at = lab();
  const busy = "vm?memory=4M&zero=0&private=4M&working-set=4M&dirty=64M&rounds=3";
  const [source, destination] = await pair(at, busy, busy);
  await source.qmp.execute("migrate-set-parameters", { "max-bandwidth": 20 * 2 ** 20, "downtime-limit": 1 });
  const begun = performance.now();
  expect(await migrate(source, at.path("in"))).toBe("completed");
  const { ram } = await progress(source);
  expect(ram["dirty-sync-count"]).toBe(4);
  const rate = ram["precopy-bytes"]! / ((performance.now() - begun) / 1000);
  expect(rate).toBeLessThan(26 * 2 ** 20);
  expect(destination.vm.check().wrong).toBe(0);
});
