// A disk in QEMU's own formats goes through the command by its content, read by the real qemu-nbd.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { noise } from "../core/machines/image/files.ts";
import { missing } from "../support/qemu/required.ts";
import { must } from "../support/run.ts";
import { shrinker, startDaemon, tryShrinker } from "../support/shrinker.ts";

const SLOW = 120_000;
const MIB = 2 ** 20;
/** The base's; the image upon it is larger. */
const SIZE = 600 * MIB;

let folder: string;
const path = (...names: string[]) => join(folder, ...names);

/** A raw file of `SIZE` bytes: holes, and noise at some places. */
function sparse(name: string, places: readonly number[], seed: number): void {
  const file = openSync(path(name), "w");
  ftruncateSync(file, SIZE);
  for (const place of places) writeSync(file, noise(3 * MIB + 4096, seed + place), 0, undefined, place * MIB);
  closeSync(file);
}

const convert = (from: string, format: string, to: string, ...more: string[]) =>
  must("qemu-img", ["convert", "-O", format, ...more, path(from), path(to)]);

/** Compares a file with what qemu-img reads in an image. */
async function expectSame(image: string, file: string): Promise<void> {
  await convert(image, "raw", "expected.raw");
  expect(statSync(path(file)).size).toBe(statSync(path("expected.raw")).size);
  await must("cmp", [path("expected.raw"), path(file)]);
}

describe.skipIf(missing !== undefined)(`a disk by its content${missing ? ` (skipped: ${missing})` : ""}`, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "e2e-"));
    sparse("base.raw", [0, 100, 599], 1);
    await convert("base.raw", "qcow2", "base.qcow2");
    await convert("base.raw", "vmdk", "disk.vmdk");
    const top = path("top.qcow2");
    await must("qemu-img", [
      "create",
      "-q",
      "-f",
      "qcow2",
      "-b",
      "base.qcow2",
      "-F",
      "qcow2",
      top,
      `${SIZE + 40 * MIB}`,
    ]);
    writeFileSync(path("written"), noise(MIB, 9));
    const writes = [`write -s ${path("written")} 101M 1M`, "write -z 0 2M", `write -P 0x61 ${SIZE + MIB} 70000`];
    await must("qemu-io", [...writes.flatMap((write) => ["-c", write]), top]);
  }, SLOW);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test(
    "goes through a bundle, with what its backing file holds, and its holes stay holes",
    async () => {
      const bundle = path("site.bundle");
      await shrinker("migrate", `nbd:${path("top.qcow2")}`, `vm=nbd:${path("disk.vmdk")}`, "--to", `file:${bundle}`);
      await shrinker("receive", `file:${bundle}`, "--output", path("out"));
      expect(readdirSync(path("out")).sort()).toEqual(["top.qcow2", "vm"]);
      await expectSame("top.qcow2", "out/top.qcow2");
      await expectSame("disk.vmdk", "out/vm");
      expect(statSync(path("out/vm")).blocks * 512).toBeLessThan(20 * MIB);
      // The two have almost all in common.
      expect(statSync(bundle).size).toBeLessThan(12 * MIB);
    },
    SLOW,
  );

  test(
    "goes over TCP beside the container that it is in",
    async () => {
      await using daemon = await startDaemon(
        "receive",
        "--listen",
        "tcp://127.0.0.1:0",
        "--once",
        "--output",
        path("tcp"),
      );
      const machines = [`disk=nbd:${path("top.qcow2")}`, path("top.qcow2")];
      await shrinker("migrate", ...machines, "--to", daemon.url, "--parallel", "2");
      expect(await daemon.ended).toBe(0);
      await expectSame("top.qcow2", "tcp/disk");
      expect(Buffer.compare(readFileSync(path("tcp/top.qcow2")), readFileSync(path("top.qcow2")))).toBe(0);
    },
    SLOW,
  );

  test(
    "that QEMU can't open fails in its words before anything is dialled, and leaves no process",
    async () => {
      writeFileSync(
        path("broken.qcow2"),
        Buffer.concat([Buffer.from("QFI\xfb\0\0\0\x63", "latin1"), Buffer.alloc(8192)]),
      );
      const machines = [`nbd:${path("top.qcow2")}`, `nbd:${path("broken.qcow2")}`];
      const { code, stderr } = await tryShrinker("migrate", ...machines, "--to", "tcp://127.0.0.1:9");
      expect(code).toBe(3);
      expect(stderr).toContain(`Cannot read "${path("broken.qcow2")}": `);
      expect(stderr).toMatch(/version 99/);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
      await expectUnlocked();
    },
    SLOW,
  );

  test(
    "is let go when the migration is killed",
    async () => {
      const killed = await must("sh", [
        "-c",
        'sh "$1" migrate "nbd:$2" --to "file:$3" --bandwidth 80kbit & sleep 2; kill -9 $!; wait $!; echo $?',
        "sh",
        join(import.meta.dirname, "../../cli/shrinker"),
        path("top.qcow2"),
        path("killed.bundle"),
      ]);
      expect(killed.trim()).toBe("137");
      await expectUnlocked();
    },
    SLOW,
  );
});

/** QEMU opens an image for writing only while nobody else has it open. */
async function expectUnlocked(): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await must("qemu-io", ["-c", "write -z 0 512", path("top.qcow2")]);
      return;
    } catch (error) {
      if (tries === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
