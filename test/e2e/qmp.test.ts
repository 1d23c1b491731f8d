// The QMP client and the machine on top of it, with real QEMUs: a guest goes from one to the other, which never starts it by itself.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { compatible } from "../../core/machines/qemu/compatible.ts";
import { describe as describeVm } from "../../core/machines/qemu/description.ts";
import { QemuDestination } from "../../core/machines/qemu/destination.ts";
import { launch } from "../../core/machines/qemu/launch.ts";
import { QmpClient } from "../../core/machines/qemu/qmp.ts";
import { runState } from "../../core/machines/qemu/run-state.ts";
import { readSettings, writeSettings } from "../../core/machines/qemu/settings.ts";
import { QemuSource } from "../../core/machines/qemu/source.ts";
import { buildGuest, type Guest, readSerial, type Workload } from "../support/qemu/guest.ts";
import { missing } from "../support/qemu/required.ts";
import { must } from "../support/run.ts";

const SLOW = 120_000;
const workload: Workload = { memory: 32, dirty: 4096, seed: 3, kind: "text" };

let folder: string;
let guest: Guest;
let number = 0;
const path = (...names: string[]) => join(folder, ...names);
const signal = AbortSignal.timeout(10 * SLOW);

interface Vm extends AsyncDisposable {
  readonly qmp: QmpClient;
  serial(): string;
}

/** The command of a QEMU with the guest, and where its serial port and QMP go. */
function machine() {
  const name = `${number++}`;
  mkdirSync(path(name));
  const { memory, dirty, seed, kind } = workload;
  const append = `console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check -- ${memory} ${dirty} ${seed} ${kind}`;
  const file = `driver=file,node-name=f0,filename=${path("disk")}`;
  const args = [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=tcg", "-m", "128", "-name", "web"],
    ...["-kernel", guest.kernel, "-initrd", guest.initramfs, "-append", append, "-serial", `file:${path(name, "log")}`],
    ...["-blockdev", file, "-blockdev", "driver=raw,node-name=d0,file=f0", "-device", "virtio-blk-pci,drive=d0,id=vd0"],
  ];
  const log = path(name, "log");
  const serial = () => (existsSync(log) ? readFileSync(log, "latin1") : "");
  return { args, socket: path(name, "qmp"), serial };
}

/** Starts one that runs its guest. */
async function start(): Promise<Vm> {
  const { args, socket, serial } = machine();
  const child = spawn("qemu-system-x86_64", [...args, "-qmp", `unix:${socket},server=on,wait=off`], {
    stdio: "ignore",
  });
  const exited = once(child, "exit");
  const kill = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  for (const end = performance.now() + 20_000; ; await sleep(20)) {
    try {
      const qmp = await QmpClient.connect(socket, { signal });
      return { qmp, serial, [Symbol.asyncDispose]: () => kill().then(() => qmp.close()) };
    } catch (error) {
      // At first nobody listens.
      if (performance.now() < end) continue;
      await kill();
      throw error;
    }
  }
}

const quoted = (args: readonly string[]) => args.map((arg) => `'${arg}'`).join(" ");

/** Launches one that waits for a guest. */
async function wait() {
  const { args, socket, serial } = machine();
  const launched = await launch({ command: `qemu-system-x86_64 ${quoted(args)}`, socket, signal });
  return { ...launched, serial, [Symbol.asyncDispose]: () => launched.kill() };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + 60_000; !condition(); await sleep(20))
    if (performance.now() > end) throw new Error(`no ${what}`);
}
const passes = (vm: { serial(): string }, count: number) =>
  until(() => readSerial(vm.serial()).passes >= count, `pass ${count} of the guest`);

describe.skipIf(missing !== undefined)(`QEMU by QMP${missing ? ` (skipped: ${missing})` : ""}`, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "qmp-"));
    guest = await buildGuest(path("guest"));
    writeFileSync(path("disk"), new Uint8Array(1 << 20));
  }, SLOW);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test(
    "describes itself, and gets its settings back",
    async () => {
      await using vm = await start();
      const description = await describeVm(vm.qmp);
      expect(description).toMatchObject({
        name: "web",
        ramBytes: 128 << 20,
        vcpus: 1,
        accelerator: "tcg",
        blockers: [],
      });
      expect(description.machine).toMatch(/^pc-i440fx-\d+\.\d+$/);
      expect(description.cpuModel).toBe("qemu64");
      expect(description.qemu).toEqual({ ...vm.qmp.version });
      expect(description.disks).toEqual([
        {
          ...{ node: "d0", sizeBytes: 1 << 20, writable: true, file: path("disk") },
          device: description.disks[0]!.device,
        },
      ]);
      expect(description.disks[0]!.device).toContain("vd0");
      expect(compatible(description, description)).toEqual([]);

      const qmp = vm.qmp;
      await qmp.execute("migrate-set-parameters", { "max-bandwidth": 2n ** 63n - 1n, "downtime-limit": 123 });
      await qmp.execute("migrate-set-capabilities", { capabilities: [{ capability: "xbzrle", state: true }] });
      const before = await readSettings(qmp);
      expect(before.parameters["max-bandwidth"]).toEqual({ integer: `${2n ** 63n - 1n}` });
      // Whatever QEMU tells, it takes.
      await writeSettings(qmp, before);
      const source = new QemuSource(qmp);
      const saved = await source.prepare({
        bandwidth: 1 << 20,
        downtimeLimitMs: 50,
        autoConverge: true,
        postcopy: true,
      });
      expect(await source.setSwitchoverBandwidth(1e6)).toBe(true);
      const changed = await readSettings(qmp);
      expect(changed.parameters).toMatchObject({ "max-bandwidth": 1 << 20, "avail-switchover-bandwidth": 1e6 });
      expect(changed.capabilities).toMatchObject({ xbzrle: false, "return-path": true, "postcopy-ram": true });
      await source.restore(saved);
      expect(await readSettings(qmp)).toEqual(before);
    },
    SLOW,
  );

  test(
    "gives a guest to another, which lets it run when told",
    async () => {
      await using from = await start();
      await using to = await wait();
      await passes(from, 1);
      const source = new QemuSource(from.qmp);
      const destination = new QemuDestination(to.qmp);
      expect(compatible(await describeVm(from.qmp), await describeVm(to.qmp))).toEqual([]);
      await source.prepare();
      await destination.prepare();
      const uri = `unix:${path("stream")}`;
      await destination.incoming(uri);
      const loaded = destination.loaded(signal);
      await source.start(uri);
      const { ram } = await source.waitFor(["pre-switchover"], { signal });
      expect(ram!.total).toBeGreaterThan(128 << 20);
      expect(ram!.normalPages).toBeGreaterThan((workload.memory << 20) / ram!.pageSize);
      expect((await runState(from.qmp)).running).toBe(false);
      await expect(destination.run()).rejects.toThrow("not loaded yet");
      await source.continueSwitchover();
      expect((await source.waitFor(["completed"], { signal })).downtimeMs).toBeGreaterThan(0);
      expect((await loaded).status).toBe("completed");
      expect((await runState(to.qmp)).status).toBe("paused");
      await expect(source.cancel()).rejects.toThrow("the migration has completed");
      const before = from.serial();
      await source.quit();
      await destination.run();
      await passes(to, 2);
      expect(from.serial()).toBe(before);
      const { sequence, wrong } = readSerial(before, to.serial());
      expect(wrong).toEqual([]);
      expect(sequence).toEqual(sequence.map((_, index) => index + 1));
      await destination.discard();
      expect(await to.ended).toBe("status 0");
    },
    SLOW,
  );

  test(
    "goes on with its guest when the migration is cancelled, wherever it was, or fails",
    async () => {
      await using from = await start();
      await passes(from, 1);
      const source = new QemuSource(from.qmp);
      for (const status of ["active", "pre-switchover"]) {
        await using to = await wait();
        const destination = new QemuDestination(to.qmp);
        await source.prepare({ bandwidth: status === "active" ? 1 << 20 : undefined });
        await destination.prepare();
        const uri = `unix:${path(status)}`;
        await destination.incoming(uri);
        await source.start(uri);
        await source.waitFor([status], { signal });
        expect((await source.cancel()).status).toBe("cancelled");
        expect((await runState(from.qmp)).running).toBe(true);
        await expect(destination.loaded(signal)).rejects.toThrow("has failed");
        await expect(destination.prepare()).rejects.toThrow("start another one");
        await destination.discard();
      }
      // Nobody reads it to its end.
      const server = createServer((socket) => socket.once("data", () => socket.destroy())).listen(path("stream"));
      await source.start(`unix:${path("stream")}`);
      await expect(source.waitFor(["completed"], { signal })).rejects.toThrow("has failed: ");
      server.close();
      expect((await source.cancel()).status).toBe("failed");
      await passes(from, readSerial(from.serial()).passes + 1);
      expect(readSerial(from.serial()).wrong).toEqual([]);
    },
    SLOW,
  );

  test(
    "finishes after copy, also after the stream was lost",
    async () => {
      await using from = await start();
      await using to = await wait();
      await passes(from, 1);
      const source = new QemuSource(from.qmp);
      const destination = new QemuDestination(to.qmp);
      await source.prepare({ bandwidth: 4 << 20, postcopy: true, pauseBeforeSwitchover: false });
      await destination.prepare({ postcopy: true });
      await destination.incoming(`unix:${path("first")}`);
      const loaded = destination.loaded(signal);
      await from.qmp.execute("migrate-set-parameters", { "max-postcopy-bandwidth": 1 << 20 });
      await source.start(`unix:${path("first")}`);
      await source.waitFor(["active"], { signal });
      await source.startPostcopy();
      expect((await loaded).status).toBe("postcopy-active");
      await destination.run();
      await expect(source.cancel()).rejects.toThrow("post-copy has begun");
      await source.pausePostcopy();
      await source.waitFor(["postcopy-paused"], { signal });
      await destination.recover(`unix:${path("second")}`);
      await source.recover(`unix:${path("second")}`);
      await from.qmp.execute("migrate-set-parameters", { "max-postcopy-bandwidth": 0 });
      await source.waitFor(["completed"], { signal });
      await passes(to, 2);
      const { sequence, wrong } = readSerial(from.serial(), to.serial());
      expect(wrong).toEqual([]);
      expect(sequence).toEqual(sequence.map((_, index) => index + 1));
      await destination.discard();
    },
    SLOW,
  );
});

describe.skipIf(missing !== undefined)("a launched QEMU", () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "qmp-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test(
    "outlives who launched it, and can be found again",
    async () => {
      const socket = path("qmp");
      const script = path("launcher.ts");
      const module = resolve(import.meta.dirname, "../../core/machines/qemu/launch.ts");
      const command = "qemu-system-x86_64 -nodefaults -display none -machine none";
      writeFileSync(
        script,
        `import { launch } from ${JSON.stringify(module)};
        const options = ${JSON.stringify({ command, socket })};
        const { qmp, pid } = await launch({ ...options, signal: new AbortController().signal });
        await qmp.close();
        console.log(pid);`,
      );
      // It ends by itself, though QEMU's stderr is open.
      const config = resolve(import.meta.dirname, "../../deno.json");
      const flags = "Deno" in globalThis ? ["-A", "--no-check", `--config=${config}`] : [];
      const pid = Number(await must(process.execPath, ["run", ...flags, script], { seconds: 20 }));
      expect(pid).toBeGreaterThan(1);
      const qmp = await QmpClient.connect(socket, { signal });
      expect((await runState(qmp)).status).toBe("inmigrate");
      process.kill(pid, 0);
      await new QemuDestination(qmp).discard();
    },
    SLOW,
  );

  test(
    "says why it can't be, and isn't left behind by -daemonize",
    async () => {
      // Sockets of their own: a QEMU that ends removes its own only some time after it has closed it.
      const wrong = { socket: path("wrong"), signal, command: "qemu-system-x86_64 -device nonsense" };
      await expect(launch(wrong)).rejects.toThrow("nonsense");
      const command = `qemu-system-x86_64 -nodefaults -display none -machine none -daemonize -pidfile '${path("pid")}'`;
      await expect(launch({ socket: path("daemon"), signal, command })).rejects.toThrow("leave -daemonize out");
    },
    SLOW,
  );
});
