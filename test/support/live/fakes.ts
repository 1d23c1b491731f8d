/** Fake VMs as processes of their own. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SHELL_COMMAND } from "../cli.ts";
import type { End, GuestRow } from "./row.ts";
import { now, startTool, type Tool, type ToolEvent } from "./tool.ts";
import type { LiveVm, Machines, RunChange } from "./vm.ts";

/** Small, and half zeros; a guest rewrites little unless its row says otherwise. */
const DEFAULTS = { memory: "8M", dirty: "1M" };

function options({ name, source = {}, destination = {} }: GuestRow, end: End): string[] {
  const memory = source.memory ?? DEFAULTS.memory;
  const all = end === "source" ? { ...DEFAULTS, ...source } : { memory, ...destination };
  return [name, ...Object.entries(all).flatMap(([key, value]) => value.split(" ").flatMap((one) => [`--${key}`, one]))];
}

/** What its events say of when it ran. */
function changesOf(events: readonly ToolEvent[], endedAt: number | undefined): RunChange[] {
  const changes: RunChange[] = [];
  let runs = false;
  for (const { type, status, at, sequence } of events) {
    if (type === "ready" && status === "running") changes.push({ runs: true, at: 0 });
    if (type === "stopped" || type === "resumed")
      changes.push({ runs: type === "resumed", at: at as number, sequence: sequence as number });
    runs = changes.at(-1)?.runs ?? false;
  }
  if (runs && endedAt !== undefined) changes.push({ runs: false, at: endedAt });
  return changes;
}

const wrongOf = (events: readonly ToolEvent[]) => {
  const checks = events.filter(({ type }) => type === "check");
  if (checks.length === 0) return undefined;
  return checks.flatMap(({ wrong, pages }) => (wrong === 0 ? [] : [`${wrong} of ${pages} pages are wrong`]));
};

/** A fake has no post-copy. */
const stall = () => Promise.reject(new Error("a fake lacks no memory"));

const hasArrived = ({ type, direction }: ToolEvent) => type === "migrated" && direction === "in";

function vmOf(tool: Tool, guest: string, end: End, qmp: string): LiveVm {
  return {
    guest,
    end,
    qmp,
    changes: () => changesOf(tool.events, tool.endedAt),
    get running() {
      return changesOf(tool.events, tool.endedAt).at(-1)?.runs ?? false;
    },
    get ended() {
      return tool.endedAt !== undefined;
    },
    stopped: () => tool.until(({ type }) => type === "stopped", "a guest that stops").then(() => {}),
    arrived: () => tool.until(hasArrived, "a guest").then(() => {}),
    gone: () => tool.result.then(() => {}),
    kill: () => tool.kill(),
    stall,
    wrong: () => wrongOf(tool.events),
    said: () => `${end} ${tool.said()}`,
    async [Symbol.asyncDispose]() {
      tool.signal("SIGTERM");
      await tool.result;
    },
  };
}

/** A fake that the receiver has started, by what it writes to a file. */
function launched(guest: string, pid: number, log: string): LiveVm {
  let endedAt: number | undefined;
  const events = () => {
    const text = readFileSync(log, "utf8");
    if (!existsSync(`/proc/${pid}`)) endedAt ??= now();
    const whole = text.split("\n").slice(0, -1);
    return whole.map((line) => JSON.parse(line) as ToolEvent);
  };
  const until = async (happened: () => boolean) => {
    while (!happened()) await sleep(10);
  };
  const changes = () => changesOf(events(), endedAt);
  const ended = () => events() && endedAt !== undefined;
  return {
    guest,
    end: "destination",
    get qmp() {
      return String(events().find(({ type }) => type === "ready")?.qmp ?? "");
    },
    changes,
    get running() {
      return changes().at(-1)?.runs ?? false;
    },
    get ended() {
      return ended();
    },
    gone: () => until(ended),
    stopped: () => until(() => events().some(({ type }) => type === "stopped")),
    arrived: () => until(() => events().some(hasArrived)),
    async kill() {
      if (ended()) return;
      endedAt = now();
      process.kill(pid, "SIGKILL");
      await until(() => !existsSync(`/proc/${pid}`));
    },
    stall,
    wrong: () => wrongOf(events()),
    said: () => `launched ${pid}\n${readFileSync(log, "utf8")}`,
    async [Symbol.asyncDispose]() {
      await this.kill();
    },
  };
}

export const fakes: Machines = {
  async start(guest, end, folder) {
    const qmp = join(folder, `${end[0]}-${guest.name}`);
    const more = end === "source" ? (guest.paused ? ["-S"] : []) : ["--incoming", "defer", "--check"];
    const tool = startTool(["fake", ...options(guest, end), "--qmp", qmp, ...more]);
    await tool.until(({ type }) => type === "ready", "being ready");
    return vmOf(tool, guest.name, end, qmp);
  },

  launcher(guest, folder) {
    const log = join(folder, `launched-${guest.name}`);
    const script = join(folder, `launch-${guest.name}`);
    const words = options(guest, "destination").map((word) => `'${word}'`);
    // QEMU's options behind it: -S -incoming defer -qmp unix:PATH,...
    const fake = `fake ${words.join(" ")} --check --json -S --incoming "$3" --qmp "$5"`;
    writeFileSync(script, `exec ${SHELL_COMMAND} ${fake} >'${log}'.$$\n`);
    const known = new Map<number, LiveVm>();
    const vms = () => {
      for (const name of readdirSync(folder)) {
        const pid = name.startsWith(`launched-${guest.name}.`) ? Number(name.split(".").at(-1)) : 0;
        if (pid > 0 && !known.has(pid)) known.set(pid, launched(guest.name, pid, join(folder, name)));
      }
      return [...known.values()];
    };
    return { command: `sh '${script}'`, vms };
  },

  async history(vms, { corrupt = false }) {
    const wrong: string[] = [];
    const changes = vms.flatMap((vm) => vm.changes()).sort((a, b) => a.at - b.at);
    let last: number | undefined;
    for (const { runs, sequence } of changes) {
      if (runs && last !== undefined && sequence !== last)
        wrong.push(`it stopped at ${last} and went on at ${sequence}`);
      if (!runs) last = sequence;
    }
    const damage = vms.flatMap((vm) => vm.wrong() ?? []);
    if (damage.length > 0 !== corrupt) wrong.push(corrupt ? "its memory is right" : damage.join());
    return wrong;
  },
};
