/** A QEMU of the tests' own, under TCG, with the test guest in it or waiting for it to come in. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Guest, Workload } from "./guest.ts";
import { connectQmp, type Qmp } from "./qmp.ts";

const QEMU = "qemu-system-x86_64";

export interface Vm extends AsyncDisposable {
  readonly qmp: Qmp;
  readonly pid: number;
  /** All that the guest has printed on this QEMU. */
  serial(): string;
  /** Waits until what the guest printed is as wanted; throws when it is not within `seconds`, or when QEMU ends. */
  until(wanted: (serial: string) => boolean, what: string, seconds?: number): Promise<void>;
  /** Ends QEMU, whatever the guest is doing. */
  kill(): Promise<void>;
}

export interface VmOptions {
  /** For the socket, the serial log and the like; made where it is missing. Short: it becomes part of a socket's path. */
  readonly folder: string;
  readonly guest: Guest;
  readonly workload: Workload;
  /** The guest's RAM in MiB. Both ends of a migration need the same. */
  readonly ram?: number;
  /** Waits for `migrate-incoming` instead of booting. */
  readonly incoming?: boolean;
  /** More arguments for QEMU, such as disks. */
  readonly extra?: readonly string[];
  /** A network namespace to run in. */
  readonly netns?: string;
  /** A unix socket on which somebody listens: what the guest prints also goes there, at once. */
  readonly console?: string;
}

/** Starts QEMU and waits until its QMP answers. */
export async function startVm({
  folder,
  guest,
  workload,
  ram = 256,
  incoming,
  extra = [],
  ...where
}: VmOptions): Promise<Vm> {
  mkdirSync(folder, { recursive: true });
  const socket = join(folder, "qmp.sock");
  const log = join(folder, "serial.log");
  const { memory, dirty, seed, kind, tick = 200, pass = 1 } = workload;
  const { netns, console } = where;
  const chardev = console === undefined ? `file,path=${log}` : `socket,path=${console},logfile=${log}`;
  const child = spawn(
    netns === undefined ? QEMU : "ip",
    [
      // `ip` becomes QEMU: the pid is QEMU's either way.
      ...(netns === undefined ? [] : ["netns", "exec", netns, QEMU]),
      ...[
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "pc,accel=tcg",
        "-m",
        `${ram}`,
        "-smp",
        "1",
      ],
      ...["-kernel", guest.kernel, "-initrd", guest.initramfs],
      // What follows `--` goes to init. A quiet kernel leaves the serial log to the guest's program. On a busy machine the kernel
      // may miss its timer's first ticks, and would panic.
      ...[
        "-append",
        `console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check -- ${memory} ${dirty} ${seed} ${kind} ${tick} ${pass}`,
      ],
      ...["-chardev", `${chardev},id=serial`, "-serial", "chardev:serial"],
      ...["-qmp", `unix:${socket},server=on,wait=off`, ...(incoming ? ["-incoming", "defer"] : []), ...extra],
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  let failure: Error | undefined;
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  child.on("error", (error) => {
    failure = error;
  });
  child.on("exit", (code, signal) => {
    failure ??= new Error(`QEMU ended (${signal ?? code}): ${said.trim() || "it gave no reason"}`);
  });
  const serial = () => (existsSync(log) ? readFileSync(log, "latin1") : "");

  const poll = async (ready: () => boolean, what: string, seconds: number) => {
    const end = performance.now() + seconds * 1000;
    while (!ready()) {
      if (failure) throw failure;
      if (performance.now() > end)
        throw new Error(`no ${what} within ${seconds} s; the guest printed: ${serial().slice(-300)}`);
      await sleep(20);
    }
  };
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };

  try {
    let qmp: Qmp | undefined;
    while (!qmp) {
      await poll(() => existsSync(socket), "QMP socket", 20);
      // The file is there a moment before QEMU listens.
      qmp = await connectQmp(socket).catch(() => sleep(20, undefined));
    }
    const connected = qmp;
    return {
      qmp: connected,
      pid: child.pid as number,
      serial,
      until: (wanted, what, seconds = 60) => poll(() => wanted(serial()), what, seconds),
      kill,
      [Symbol.asyncDispose]: kill,
    };
  } catch (error) {
    await kill();
    throw failure ?? error;
  }
}
