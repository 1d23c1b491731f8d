import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { abortReason, ProtocolError, ShrinkerError } from "../../errors.ts";
import { within } from "../../within.ts";
import { QmpClient } from "./qmp.ts";
import { words } from "./qmp-errors.ts";
import { quitQemu } from "./run-state.ts";
import { checkSocketPath } from "./socket-path.ts";

const START_MS = 10_000;
const RETRY_MS = 50;
/** A command that daemonizes ends when its QEMU begins to answer, or a little later. */
const DAEMON_MS = 50;
const POLL_MS = 10;
/** For the last of its words, once it has ended. */
const LAST_WORDS_MS = 200;
/** What it has to end after SIGTERM. */
const TERM_MS = 1000;
/** After SIGKILL; what then is left has ended, but its parent has not taken note yet. */
const KILL_MS = 200;
/** What is kept of its stderr, in UTF-16 units. */
const MAX_SAID = 2000;

export interface LaunchOptions {
  /** For `/bin/sh`, to start QEMU with all that the guest has; it is given more arguments. Without `-daemonize`. */
  readonly command: string;
  /** Where QMP is to listen: a path that doesn't exist, in a folder that nobody else may enter. */
  readonly socket: string;
  readonly signal: AbortSignal;
  /** Milliseconds until QMP answers; 10 s unless given. */
  readonly timeout?: number;
}

/** A QEMU that waits for a guest, stopped. It goes on without this process. */
export interface Launched {
  readonly qmp: QmpClient;
  /** Of the command's process, which leads a session and group of its own; mostly QEMU itself. */
  readonly pid: number;
  /** The end of what it has printed to stderr so far, on one line. */
  said(): string;
  /** How it ended, such as `status 1`; never rejects. */
  readonly ended: Promise<string>;
  /** Ends its processes, by force if need be. Never rejects. */
  kill(): Promise<void>;
}

/**
 * Starts QEMU and connects to it. Rejects with `input`, and the last it printed, where it ends or doesn't answer in time;
 * with `usage` for an impossible socket; with the signal's reason. Nothing runs then.
 */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const { command, socket, signal, timeout = START_MS } = options;
  checkSocketPath(socket);
  if (command.trim() === "" || command.includes("\0"))
    throw new ShrinkerError("usage", "Cannot start QEMU: expected launch:COMMAND");
  if (signal.aborted) throw abortReason(signal);
  // Else it might be another QEMU's, which is still to be reached.
  if (existsSync(socket))
    throw new ShrinkerError(
      "exists",
      `Cannot start QEMU: "${socket}" exists already; choose another path for its socket`,
    );
  // QEMU takes a comma for the end of an option's value, unless it is doubled.
  const qmpAddress = `unix:${socket.replaceAll(",", ",,")},server=on,wait=off`;
  const child = spawn("/bin/sh", ["-c", `${command} "$@"`, "sh", "-S", "-incoming", "defer", "-qmp", qmpAddress], {
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  const { said, ended, failed } = watch(child);
  const over = () => child.exitCode !== null || child.signalCode !== null;
  const until = performance.now() + timeout;
  try {
    for (;;) {
      if (signal.aborted) throw abortReason(signal);
      const error = failed();
      if (error) throw unfit(`/bin/sh cannot be run: ${error.message}`);
      const left = until - performance.now();
      if (left <= 0)
        throw unfit(`its QMP socket does not answer within ${timeout / 1000} s: ${said() || "it says nothing"}`);
      const qmp = await tryConnect(socket, signal, left);
      if (qmp) await sleep(DAEMON_MS);
      if (over()) throw await early(qmp, said, ended);
      if (qmp) {
        // This process may end, and QEMU goes on: it does not mind that nobody reads its stderr.
        child.unref();
        unref(child.stderr);
        // Once it has ended, its number may be another one's.
        return { qmp, pid: child.pid!, said, ended, kill: async () => (over() ? undefined : end(child)) };
      }
      await sleep(RETRY_MS);
    }
  } catch (error) {
    await end(child);
    // A QEMU that is killed leaves it behind.
    await rm(socket, { force: true }).catch(() => {});
    throw error;
  }
}

const unfit = (why: string) => new ShrinkerError("input", `Cannot start QEMU: ${why}`);

/** Connects; undefined while nobody answers. */
async function tryConnect(socket: string, signal: AbortSignal, timeout: number): Promise<QmpClient | undefined> {
  try {
    return await QmpClient.connect(socket, { signal, timeout });
  } catch (error) {
    if (signal.aborted || error instanceof ProtocolError) throw error;
    return undefined;
  }
}

/** Why a command that has ended was of no use. One that daemonized has left a QEMU behind, which nobody would end. */
async function early(qmp: QmpClient | undefined, said: () => string, ended: Promise<string>): Promise<ShrinkerError> {
  if (qmp) {
    await quitQemu(qmp);
    return unfit("the command ends before QEMU does; leave -daemonize out of it");
  }
  const how = await ended;
  return unfit(said() || `the command ended with ${how} and printed nothing`);
}

/** Follows a process: the end of what it said, how it ended, and why it could not be started. */
function watch(child: ChildProcess) {
  let text = "";
  let failure: Error | undefined;
  child.stderr!.setEncoding("utf8").on("data", (piece: string) => {
    text = (text + piece).slice(-MAX_SAID);
  });
  const closed = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const ended = new Promise<string>((resolve) => {
    child.on("exit", (status, signal) => {
      const how = signal === null ? `status ${status}` : `signal ${signal}`;
      // A process that it left behind may keep stderr open.
      void within(closed, LAST_WORDS_MS).then(() => resolve(how));
    });
  });
  child.on("error", (error) => {
    failure = error;
  });
  const said = () =>
    words(
      text
        .trim()
        .replaceAll(/\s*\n\s*/g, "; ")
        .slice(-MAX_SAID),
    );
  return { said, ended, failed: () => failure };
}

/** Ends a whole process group, and waits until nobody is left in it. */
async function end(child: ChildProcess): Promise<void> {
  for (const [signal, ms] of [
    ["SIGTERM", TERM_MS],
    ["SIGKILL", KILL_MS],
  ] as const) {
    if (!signalGroup(child, signal)) return;
    for (const until = performance.now() + ms; performance.now() < until; await sleep(POLL_MS))
      if (!signalGroup(child, 0)) return;
  }
}

/** False where nobody is in the process group any more. */
function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals | 0): boolean {
  try {
    return pid !== undefined && process.kill(-pid, signal);
  } catch {
    return false;
  }
}

/** Lets this process end though a pipe is open. */
function unref(stream: unknown): void {
  const { unref } = (stream ?? {}) as { unref?: () => void };
  unref?.call(stream);
}
