// QEMU mirrors disks to another QEMU's NBD server, through a tunnel that is told what it carries. No guest is needed.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { noise } from "../core/machines/image/files.ts";
import { startCli } from "../support/cli.ts";
import { connectQmp, type Qmp } from "../support/qemu/qmp.ts";
import { missing } from "../support/qemu/required.ts";
import { must } from "../support/run.ts";

const SLOW = 120_000;
const MIB = 2 ** 20;
const SIZE = 64 * MIB;
/** What no codec makes smaller. */
const NOISE = 20 * MIB;

let folder: string;
const path = (name: string) => join(folder, name);

/** A raw disk of `SIZE` bytes: what is given, at its places, and holes. */
function disk(name: string, parts: readonly (readonly [number, Uint8Array])[]): void {
  const file = openSync(path(name), "w");
  ftruncateSync(file, SIZE);
  for (const [at, bytes] of parts) writeSync(file, bytes, 0, undefined, at);
  closeSync(file);
}

interface Vm extends AsyncDisposable {
  readonly qmp: Qmp;
}

/** A QEMU without a machine, and with these files as its disks. */
async function startVm(name: string, disks: readonly string[]): Promise<Vm> {
  const args = ["-nodefaults", "-display", "none", "-machine", "none", "-qmp", `unix:${path(name)},server=on,wait=off`];
  for (const file of disks)
    args.push("-blockdev", `driver=file,node-name=${file},filename=${path(file)},discard=unmap`);
  const child = spawn("qemu-system-x86_64", args, { stdio: "ignore" });
  const exited = once(child, "exit");
  const stop = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  for (const end = performance.now() + 20_000; ; await sleep(20)) {
    const qmp = await connectQmp(path(name)).catch(() => undefined);
    if (qmp) return { qmp, [Symbol.asyncDispose]: stop };
    if (performance.now() < end && child.exitCode === null) continue;
    await stop();
    throw new Error(`no QEMU answers at ${path(name)}`);
  }
}

/** Copies a disk over its NBD connection; `meanwhile` is done once the two are alike, and while they are kept so. */
async function mirror({ qmp }: Vm, name: string, meanwhile: () => Promise<unknown> = async () => {}): Promise<void> {
  const before = qmp.events;
  const ofJob = ({ device }: Record<string, unknown>) => device === `job-${name}`;
  const copying = { device: name, target: `to-${name}`, sync: "full", "copy-mode": "write-blocking" };
  // A guest's writes go through the job's filter.
  const filter = { "filter-node-name": `${name}-filter` };
  await qmp.execute("blockdev-mirror", { "job-id": `job-${name}`, ...copying, ...filter });
  const ended = qmp.event("BLOCK_JOB_COMPLETED", ofJob, before);
  await Promise.race([qmp.event("BLOCK_JOB_READY", ofJob, before), ended]);
  await meanwhile();
  await qmp.execute("block-job-cancel", { device: `job-${name}` });
  expect((await ended).data.error).toBeUndefined();
}

describe.skipIf(missing !== undefined)(`mirrored disks${missing ? ` (skipped: ${missing})` : ""}`, () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "e2e-"));
    const text = Buffer.alloc(4 * MIB, "what a disk holds besides. ");
    const content = [
      [0, noise(NOISE, 5)],
      [24 * MIB, new Uint8Array(4 * MIB)],
      [32 * MIB + 512, text],
    ] as const;
    disk("a", content);
    disk("b", content);
    for (const name of ["a2", "b2"]) disk(name, []);
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test(
    "are alike at the other end, and what they share crosses once",
    async () => {
      const unix = (name: string) => `unix:${path(name)}`;
      await using target = await startVm("target", ["a2", "b2"]);
      await target.qmp.execute("nbd-server-start", { addr: { type: "unix", data: { path: path("nbd") } } });
      for (const name of ["a2", "b2"])
        await target.qmp.execute("block-export-add", {
          type: "nbd",
          id: name,
          "node-name": name,
          name,
          writable: true,
        });
      await using receiver = startCli([
        "receive",
        "--listen",
        unix("l"),
        "--once",
        "--json",
        "--service",
        `d=${unix("nbd")}`,
      ]);
      await receiver.said(/"listening"/);
      const service = `d=${unix("in")},format=nbd`;
      await using tunnel = startCli(["tunnel", "--to", unix("l"), "--once", "--json", "--service", service]);
      await tunnel.said(/"listening","service"/);

      await using source = await startVm("source", ["a", "b"]);
      const server = { type: "unix", path: path("in") };
      for (const name of ["a", "b"]) {
        const node = { "node-name": `to-${name}`, server, export: `${name}2`, discard: "unmap" };
        await source.qmp.execute("blockdev-add", { driver: "nbd", ...node });
      }
      const write = (what: string) =>
        source.qmp.execute("human-monitor-command", { "command-line": `qemu-io a-filter "write ${what}"` });
      await mirror(source, "a", async () => {
        for (const what of ["-P 0x61 1536 512", "-P 0x62 50M 70656", "-z 1M 1M"]) await write(what);
      });
      await mirror(source, "b");
      for (const name of ["a", "b"]) await source.qmp.execute("blockdev-del", { "node-name": `to-${name}` });

      const [sent, received] = [await tunnel.result, await receiver.result];
      expect([sent.code, sent.stderr, received.code, received.stderr]).toEqual([0, "", 0, ""]);
      await target.qmp.execute("nbd-server-stop");
      for (const name of ["a", "b"]) await must("cmp", [path(name), path(`${name}2`)]);
      expect(readFileSync(path("a")).indexOf(Buffer.alloc(512, 0x61))).toBe(1536);
      const summary = sent.events().at(-1) as { connections: number; bytes: Record<string, number> };
      const { plain, literal, deduplicated, wire } = summary.bytes;
      expect(summary.connections).toBe(2);
      expect(plain!).toBeGreaterThan(2 * NOISE);
      // Headers, and the ends of writes that are no whole pages.
      expect(literal!).toBeLessThan(MIB);
      expect(deduplicated!).toBeGreaterThan(NOISE);
      expect(wire!).toBeGreaterThan(NOISE);
      expect(wire!).toBeLessThan(NOISE * 1.05);
    },
    SLOW,
  );
});
