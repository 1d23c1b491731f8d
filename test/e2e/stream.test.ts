// A stream that QEMU makes of a running guest goes through the command, and QEMU resumes the guest from what arrives.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGuest, type Guest, readSerial, type Workload } from "../support/qemu/guest.ts";
import { migrate, receive } from "../support/qemu/migrate.ts";
import { missing } from "../support/qemu/required.ts";
import { startVm } from "../support/qemu/vm.ts";
import { SHRINKER, shrinker, startDaemon } from "../support/shrinker.ts";

const SLOW = 120_000;
const MIB = 2 ** 20;
// Pages that the guest rewrites while it is sent are in the stream more than once: at this rate about a third of them.
const workload: Workload = { memory: 96, dirty: 16_384, seed: 7, kind: "text" };
const RATE = 40 * MIB;

let folder: string;
let guest: Guest;
let stream: string;
/** What the guest had printed when it was stopped. */
let before: string;

/** Lets QEMU load a stream, and gives what the guest printed until it had checked all of its memory twice more. */
async function resume(from: string, name: string): Promise<string> {
  await using vm = await startVm({ folder: join(folder, name), guest, workload, incoming: true });
  await receive(vm, `file:${from}`);
  await vm.until((text) => readSerial(text).passes >= 3 || readSerial(text).wrong.length > 0, "second full check");
  return vm.serial();
}

function expectToGoOn(after: string): void {
  const { sequence, wrong } = readSerial(before, after);
  expect(wrong).toEqual([]);
  expect(sequence).toEqual(sequence.map((_, index) => index + 1));
  // Ten, where the number before the first of the three checks was still printed where the guest was.
  expect(sequence.length).toBeGreaterThanOrEqual(readSerial(before).sequence.length + 10);
}

const isCopy = (path: string) => Buffer.compare(readFileSync(stream), readFileSync(path)) === 0;

describe.skipIf(missing !== undefined)(`a captured stream${missing ? ` (skipped: ${missing})` : ""}`, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "e2e-"));
    guest = await buildGuest(join(folder, "guest"));
    stream = join(folder, "guest.qevm");
    await using vm = await startVm({ folder: join(folder, "source"), guest, workload });
    await vm.until((text) => readSerial(text).passes >= 1, "first full check");
    await migrate(vm, `file:${stream}`, { bandwidth: RATE });
    before = vm.serial();
  }, SLOW);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("resumes where the guest was", async () => expectToGoOn(await resume(stream, "itself")), SLOW);

  test(
    "would not do so unnoticed with a few bytes changed",
    async () => {
      const bytes = readFileSync(stream);
      // Words side by side are only in the guest's pages; the last ones are in pages that are not sent again.
      for (let at = bytes.length, n = 0; n < 200; n++) {
        at = bytes.lastIndexOf("account balance ", at - 1, "latin1");
        if (at < 0) throw new Error("the stream does not hold the guest's pages");
        bytes[at] = 0x41;
      }
      const damaged = join(folder, "damaged.qevm");
      writeFileSync(damaged, bytes);
      expect(readSerial(before, await resume(damaged, "damaged")).wrong).not.toEqual([]);
    },
    SLOW,
  );

  test(
    "goes through a bundle",
    async () => {
      const bundle = join(folder, "site.bundle");
      const output = join(folder, "from-bundle");
      await shrinker("migrate", stream, "--to", `file:${bundle}`);
      await shrinker("receive", `file:${bundle}`, "--output", output);
      expect(isCopy(join(output, "guest.qevm"))).toBe(true);
      expect(readFileSync(bundle).length).toBeLessThan(readFileSync(stream).length / 2);
      expectToGoOn(await resume(join(output, "guest.qevm"), "bundle"));
    },
    SLOW,
  );

  test(
    "goes over TCP",
    async () => {
      const output = join(folder, "from-tcp");
      await using daemon = await startDaemon("receive", "--listen", "tcp://127.0.0.1:0", "--once", "--output", output);
      await shrinker("migrate", stream, "--to", daemon.url);
      expect(await daemon.ended).toBe(0);
      expect(isCopy(join(output, "guest.qevm"))).toBe(true);
      expectToGoOn(await resume(join(output, "guest.qevm"), "tcp"));
    },
    SLOW,
  );

  test(
    "goes through a command",
    async () => {
      const output = join(folder, "from-exec");
      await shrinker("migrate", stream, "--to", `exec:'${SHRINKER}' receive --stdio --output '${output}'`);
      expect(isCopy(join(output, "guest.qevm"))).toBe(true);
      expectToGoOn(await resume(join(output, "guest.qevm"), "exec"));
    },
    SLOW,
  );

  test(
    "shares what another guest of its kind has sent",
    async () => {
      const twin = join(folder, "twin.qevm");
      const bundles = [join(folder, "one.bundle"), join(folder, "two.bundle")] as const;
      copyFileSync(stream, twin);
      await shrinker("migrate", stream, "--to", `file:${bundles[0]}`);
      await shrinker("migrate", stream, twin, "--to", `file:${bundles[1]}`);
      const [one, two] = bundles.map((path) => readFileSync(path).length) as [number, number];
      expect(two).toBeLessThan(one * 1.1);
    },
    SLOW,
  );
});
