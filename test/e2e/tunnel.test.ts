// QEMU migrates a running guest by itself, through a tunnel that it knows nothing of.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startCli } from "../support/cli.ts";
import { buildGuest, type Guest, readSerial, type Workload } from "../support/qemu/guest.ts";
import { migrate, receive } from "../support/qemu/migrate.ts";
import { missing } from "../support/qemu/required.ts";
import { startVm } from "../support/qemu/vm.ts";

const SLOW = 120_000;
const MIB = 2 ** 20;
// At this rate pages that the guest rewrites are sent more than once before it stops.
const workload: Workload = { memory: 64, dirty: 8192, seed: 11, kind: "text" };
const RATE = 40 * MIB;

let folder: string;
let guest: Guest;
const unix = (name: string) => `unix:${join(folder, name)}`;

/** A receiver whose service `vm` is at one socket, and a tunnel to it from another, for one connection. */
async function openTunnel(name: string, from: string, to: string) {
  const link = unix(`${name}.link`);
  const receiver = startCli(["receive", "--listen", link, "--once", "--json", "--service", `vm=${to}`]);
  await receiver.said(/"listening"/);
  // A codec of its own choice may be none, where the link is fast and the processors are short of time.
  const codec = ["--compress", "zstd"];
  const tunnel = startCli(["tunnel", "--to", link, "--once", "--json", ...codec, "--service", `vm=${from}`]);
  await tunnel.said(/"listening","service":"vm"/);
  return {
    tunnel,
    receiver,
    async [Symbol.asyncDispose]() {
      await tunnel[Symbol.asyncDispose]();
      await receiver[Symbol.asyncDispose]();
    },
  };
}

describe.skipIf(missing !== undefined)(`a tunnel under QEMU${missing ? ` (skipped: ${missing})` : ""}`, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "e2e-"));
    guest = await buildGuest(join(folder, "guest"));
  }, SLOW);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test(
    "carries a migration with its return path, in pages, and the guest goes on",
    async () => {
      await using source = await startVm({ folder: join(folder, "a"), guest, workload });
      await using target = await startVm({ folder: join(folder, "b"), guest, workload, incoming: true });
      await source.until((text) => readSerial(text).passes >= 1, "first full check");
      await using ends = await openTunnel("moves", unix("out"), unix("in"));
      const arrived = receive(target, unix("in"));
      await migrate(source, unix("out"), { bandwidth: RATE, returnPath: true });
      await arrived;
      await target.until((text) => readSerial(text).passes >= 3 || readSerial(text).wrong.length > 0, "full check");
      const { sequence, wrong } = readSerial(source.serial(), target.serial());
      expect(wrong).toEqual([]);
      expect(sequence).toEqual(sequence.map((_, index) => index + 1));
      // Ten, where the number before the first of the three checks was still printed where the guest was.
      expect(sequence.length).toBeGreaterThanOrEqual(readSerial(source.serial()).sequence.length + 10);

      const [sent, received] = [await ends.tunnel.result, await ends.receiver.result];
      expect([sent.code, sent.stderr, received.code, received.stderr]).toEqual([0, "", 0, ""]);
      const summary = sent.events().at(-1) as { connections: number; failed: number; bytes: Record<string, number> };
      expect(summary).toMatchObject({ ok: true, connections: 1, failed: 0 });
      const { plain, literal, deduplicated, delta, wire } = summary.bytes;
      // The stream was seen as what it is: nearly all of it is pages, and those that came again were told from new ones.
      expect(plain!).toBeGreaterThan(64 * MIB);
      expect(literal!).toBeLessThan(plain! / 20);
      expect(deduplicated! + delta!).toBeGreaterThan(MIB);
      expect(wire!).toBeLessThan(plain! / 2);
    },
    SLOW,
  );

  test(
    "that can't reach its service fails the migration, and the guest runs on where it was",
    async () => {
      await using source = await startVm({ folder: join(folder, "c"), guest, workload });
      await source.until((text) => readSerial(text).sequence.length >= 3, "guest");
      await using ends = await openTunnel("fails", unix("out2"), unix("nobody"));
      await expect(migrate(source, unix("out2"), { returnPath: true })).rejects.toThrow(/QEMU's migration failed/);
      const before = readSerial(source.serial()).sequence.length;
      await source.until((text) => readSerial(text).sequence.length >= before + 5, "guest that runs on");
      expect(await source.qmp.execute("query-status")).toMatchObject({ status: "running" });
      expect(readSerial(source.serial()).wrong).toEqual([]);
      expect((await ends.tunnel.result).code).toBe(4);
      expect((await ends.receiver.result).code).toBe(0);
    },
    SLOW,
  );
});
