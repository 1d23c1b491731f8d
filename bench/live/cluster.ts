/** Running guests at the near site, and for each a QEMU that waits for it at the far one. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Guest, readSerial, type Workload } from "../../test/support/qemu/guest.ts";
import { configure } from "../../test/support/qemu/migrate.ts";
import { startVm, type Vm } from "../../test/support/qemu/vm.ts";
import { listenToConsole, type Piece } from "./console.ts";
import type { Sites } from "./sites.ts";

/** MiB of each guest. */
export const RAM = 256;
const TICK_MS = 20;
const PASS_SECONDS = 5;
const BOOT_SECONDS = 120;
/** Beforehand, for the gaps that the machine itself makes. */
export const QUIET_SECONDS = 5;

export const WORKLOADS: Readonly<Record<string, Workload>> = {
  idle: { memory: 16, dirty: 0, seed: 1, kind: "counter" },
  counter: { memory: 48, dirty: 1024, seed: 2, kind: "counter" },
  text: { memory: 96, dirty: 1024, seed: 3, kind: "text" },
  random: { memory: 48, dirty: 512, seed: 4, kind: "random" },
};

export interface Member {
  readonly name: string;
  readonly source: Vm;
  readonly destination: Vm;
  /** Sockets at which each speaks QMP with one more client. */
  readonly sourceQmp: string;
  readonly destinationQmp: string;
  /** What the guest has printed so far, at the near site and at the far one. */
  readonly near: readonly Piece[];
  readonly far: readonly Piece[];
}

export interface Cluster extends AsyncDisposable {
  readonly folder: string;
  readonly members: readonly Member[];
}

/** Boots all guests and waits until each has filled its memory and checked it once. `folder`: its own, short, for sockets. */
export async function startCluster(folder: string, guest: Guest, { near, far }: Sites): Promise<Cluster> {
  const stack = new AsyncDisposableStack();
  mkdirSync(folder);
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const begin = async ([name, workload]: [string, Workload]): Promise<Member> => {
    const end = async (where: string, netns: string, incoming: boolean) => {
      const path = join(folder, `${name}-${where}`);
      const qmp = `${path}.qmp`;
      const console = stack.use(await listenToConsole(`${path}.con`));
      const vm = await startVm({
        folder: path,
        guest,
        workload: { ...workload, tick: TICK_MS, pass: PASS_SECONDS },
        ram: RAM,
        incoming,
        netns,
        console: `${path}.con`,
        extra: ["-qmp", `unix:${qmp},server=on,wait=off`],
      });
      stack.use(vm);
      await configure(vm, { events: true });
      return { vm, qmp, console };
    };
    const [source, destination] = await Promise.all([end("a", near, false), end("b", far, true)]);
    return {
      name,
      source: source.vm,
      destination: destination.vm,
      sourceQmp: source.qmp,
      destinationQmp: destination.qmp,
      near: source.console.pieces,
      far: destination.console.pieces,
    };
  };
  try {
    const members = await settle(Object.entries(WORKLOADS).map(begin));
    const checked = (text: string) => readSerial(text).passes >= 1;
    await Promise.all(members.map(({ source }) => source.until(checked, "first full check", BOOT_SECONDS)));
    await sleep(QUIET_SECONDS * 1000);
    return { folder, members, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

/** As `Promise.all`, but rejects only once all have ended, so that what they made can be undone. */
async function settle<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work);
  return await Promise.all(work);
}
