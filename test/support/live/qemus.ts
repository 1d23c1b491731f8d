/** Real VMs: QEMUs under TCG with the test guest in them. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Guest, readSerial } from "../qemu/guest.ts";
import { migrate } from "../qemu/migrate.ts";
import { connectQmp, type Qmp } from "../qemu/qmp.ts";
import type { End, GuestRow } from "./row.ts";
import { now } from "./tool.ts";
import type { LiveVm, Machines, RunChange } from "./vm.ts";

/** What a row says of a machine, and what it is otherwise. */
const DEFAULTS = { machine: "microvm", smp: "1", ram: "128", memory: "16", dirty: "1024", pattern: "text", seed: "1" };
const PROGRAM = "qemu-system-x86_64";
const START_MS = 20_000;
/** For a guest to have checked all of its memory twice. */
const CHECK_MS = 20_000;
const POLL_MS = 20;
/** To read all of a guest's memory takes a tenth of that. */
const STALL_MS = 500;

type Config = typeof DEFAULTS;
const configOf = ({ source }: GuestRow): Config => ({ ...DEFAULTS, ...source });

/** A microvm measures its clock for ever where the host is busy, so it is told. */
const CLOCK = "tsc_early_khz=1000000 lpj=2000000 no_timer_check";

/** All arguments but the sockets and the log. */
function machine(guest: Guest, name: string, config: Config): string[] {
  const { memory, dirty, seed, pattern } = config;
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-name", name],
    ...["-machine", `${config.machine},accel=tcg`, "-smp", config.smp, "-m", config.ram],
    ...["-kernel", guest.kernel, "-initrd", guest.initramfs],
    ...["-append", `console=ttyS0 quiet loglevel=1 panic=-1 ${CLOCK} -- ${memory} ${dirty} ${seed} ${pattern} 50 1`],
  ];
}

/** The second monitor is the tests'. */
function ends(log: string, watch: string, tool?: string): string[] {
  const sockets = [watch, ...(tool === undefined ? [] : [tool])];
  return ["-serial", `file:${log}`, ...sockets.flatMap((path) => ["-qmp", `unix:${path},server=on,wait=off`])];
}

async function until<T>(look: () => T | undefined | Promise<T | undefined>, what: string, ms: number): Promise<T> {
  for (const end = performance.now() + ms; ; await sleep(POLL_MS)) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`no ${what} within ${ms / 1000} s`);
  }
}

/** Connects once QEMU listens. */
const connected = (path: string) => until(() => connectQmp(path).catch(() => undefined), `QMP at ${path}`, START_MS);
const read = (path: string) => (existsSync(path) ? readFileSync(path, "latin1") : "");
const alive = (pid: number) => {
  try {
    // One that has ended and that nobody has waited for is no process any more.
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

class QemuVm implements LiveVm {
  readonly guest: string;
  readonly end: End;
  readonly qmp: string;
  readonly #pid: number;
  readonly #log: string;
  readonly #ram: number;
  readonly #began: number | undefined;
  #watch: Qmp | undefined;
  #endedAt: number | undefined;

  /** @param runs since when its guest runs, in milliseconds since 1970, where it does */
  constructor(guest: GuestRow, end: End, pid: number, paths: { qmp: string; log: string }, runs?: number) {
    this.guest = guest.name;
    this.#ram = Number(configOf(guest).ram) * 2 ** 20;
    this.end = end;
    this.qmp = paths.qmp;
    this.#pid = pid;
    this.#log = paths.log;
    this.#began = runs;
  }

  watch(qmp: Qmp): void {
    this.#watch = qmp;
  }

  get serial(): string {
    return read(this.#log);
  }

  get ended(): boolean {
    if (!alive(this.#pid)) this.#endedAt ??= now();
    return this.#endedAt !== undefined;
  }

  changes(): RunChange[] {
    const began = this.#began === undefined ? [] : [{ runs: true, at: this.#began }];
    const told = (this.#watch?.history ?? []).flatMap(({ event, at }) =>
      event === "STOP" || event === "RESUME" ? [{ runs: event === "RESUME", at }] : [],
    );
    const changes = [...began, ...told];
    if (this.ended && changes.at(-1)?.runs) changes.push({ runs: false, at: this.#endedAt! });
    return changes;
  }

  get running(): boolean {
    return this.changes().at(-1)?.runs ?? false;
  }

  async stopped(): Promise<void> {
    await until(() => (this.changes().some(({ runs }) => !runs) ? true : undefined), "stop of the guest", CHECK_MS);
  }

  async arrived(): Promise<void> {
    const qmp = await until(() => this.#watch, "monitor", CHECK_MS);
    await qmp.event("MIGRATION", ({ status }) => status === "completed");
  }

  async gone(): Promise<void> {
    await until(() => (this.ended ? true : undefined), "end of QEMU", CHECK_MS);
  }

  async kill(): Promise<void> {
    if (this.ended) return;
    this.#endedAt = now();
    process.kill(this.#pid, "SIGKILL");
    await until(() => (alive(this.#pid) ? undefined : true), "end of QEMU", CHECK_MS);
  }

  async stall(): Promise<void> {
    const qmp = await until(() => this.#watch, "monitor", CHECK_MS);
    const read = qmp.execute("pmemsave", { val: 0, size: this.#ram, filename: "/dev/null" });
    // It may be killed while it waits.
    const over = read.then(() => true).catch(() => true);
    if (await Promise.race([over, sleep(STALL_MS, false)])) throw new Error("it has all of the guest's memory");
  }

  wrong(): string[] | undefined {
    const { passes, wrong } = readSerial(this.serial);
    return wrong.length > 0 ? wrong : passes >= 2 ? [] : undefined;
  }

  /** Waits until the guest, which runs, has looked at all of its memory. */
  async looked(): Promise<void> {
    await until(() => this.wrong(), "full check", CHECK_MS);
  }

  said(): string {
    const events = (this.#watch?.history ?? []).map(({ event, data, at }) => `${at} ${event} ${JSON.stringify(data)}`);
    return [`${this.end} ${this.#pid}, ${this.guest}`, ...events, this.serial.slice(-400)].join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch?.close();
    await this.kill();
  }
}

/** Makes QEMUs. @param folder for streams of guests that have booted, so that each kind boots once */
export function qemus(guest: Guest, folder: string): Machines & AsyncDisposable {
  const booted = new Map<string, Promise<string>>();
  const children = new Set<ChildProcess>();
  let count = 0;

  function spawned(args: readonly string[]): ChildProcess {
    const child = spawn(PROGRAM, args, { stdio: ["ignore", "ignore", "pipe"] });
    child.stderr!.resume();
    children.add(child);
    child.on("exit", () => children.delete(child));
    return child;
  }

  async function boot(config: Config, number: number): Promise<string> {
    const at = (name: string) => join(folder, `${name}-${number}`);
    const child = spawned([...machine(guest, "boot", config), ...ends(at("log"), at("qmp"))]);
    try {
      const qmp = await connected(at("qmp"));
      await until(() => (readSerial(read(at("log"))).passes > 0 ? true : undefined), "boot", 60_000);
      await migrate({ qmp }, `file:${at("stream")}`);
      qmp.close();
      return at("stream");
    } finally {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }

  /** Adds what a guest that has booted is like; the same for all of its kind. */
  function bootedLike(config: Config): Promise<string> {
    const key = JSON.stringify(config);
    const found = booted.get(key) ?? boot(config, booted.size);
    booted.set(key, found);
    return found;
  }

  return {
    async start(row, end, folder) {
      const config = configOf(row);
      const own = join(folder, `${end[0]}-${row.name}-${++count}`);
      const qmp = join(folder, `${end[0]}-${row.name}`);
      const paths = { qmp, log: `${own}.log`, watch: `${own}.qmp` };
      const source = end === "source" && [`file:${await bootedLike(config)}`, ...(row.paused ? ["-S"] : [])];
      const child = spawned([
        ...machine(guest, row.name, config),
        ...ends(paths.log, paths.watch, qmp),
        "-incoming",
        ...(source || ["defer"]),
      ]);
      const vm = new QemuVm(row, end, child.pid!, paths);
      const monitor = await connected(paths.watch);
      vm.watch(monitor);
      await until(() => (existsSync(qmp) ? true : undefined), "socket", START_MS);
      if (!source) return vm;
      for (;;) {
        const { status } = await monitor.execute<{ status: string }>("query-status");
        if (status === (row.paused ? "paused" : "running")) break;
        await sleep(POLL_MS);
      }
      // It may have resumed before anybody listened.
      if (row.paused || vm.running) return vm;
      const running = new QemuVm(row, end, child.pid!, paths, 0);
      running.watch(monitor);
      return running;
    },

    launcher(row, folder) {
      const prefix = `launched-${row.name}-`;
      const script = join(folder, `launch-${row.name}`);
      const at = (name: string) => `'${join(folder, prefix)}'$$.${name}`;
      const words = machine(guest, row.name, configOf(row)).map((word) => `'${word}'`);
      const serial = `-serial file:${at("log")} -qmp unix:${at("qmp")},server=on,wait=off`;
      writeFileSync(script, `exec ${PROGRAM} ${words.join(" ")} ${serial} "$@"\n`);
      const known = new Map<number, QemuVm>();
      const look = () => {
        for (const name of existsSync(folder) ? readdirSync(folder) : []) {
          const pid = name.startsWith(prefix) && name.endsWith(".qmp") ? Number(name.slice(prefix.length, -4)) : 0;
          if (pid === 0 || known.has(pid)) continue;
          const log = join(folder, `${prefix}${pid}.log`);
          const qmp = () => readdirSync(join(folder, "b", "qmp")).find((path) => alive(pid) && path);
          const vm = new QemuVm(row, "destination", pid, { log, qmp: join(folder, "b", "qmp", qmp() ?? "") });
          known.set(pid, vm);
          void connected(join(folder, name)).then(
            (monitor) => vm.watch(monitor),
            () => {},
          );
        }
        return [...known.values()];
      };
      // From the beginning, so that no event is missed.
      const timer = setInterval(() => (existsSync(folder) ? look() : clearInterval(timer)), POLL_MS);
      timer.unref();
      return { command: `sh '${script}'`, vms: look };
    },

    async history(vms) {
      const all = vms as readonly QemuVm[];
      const running = all.find((vm) => vm.running);
      await running?.looked();
      const { sequence, wrong } = readSerial(...all.map((vm) => vm.serial));
      const gap = sequence.findIndex((number, i) => i > 0 && number !== sequence[i - 1]! + 1);
      return gap < 0 ? wrong : [...wrong, `SEQ ${sequence[gap]} follows on ${sequence[gap - 1]}`];
    },

    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill("SIGKILL");
      await Promise.all([...children].map((child) => once(child, "exit")));
    },
  };
}
