import { type ChildProcess, spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { abortReason, fileError, ShrinkerError, systemCode } from "../../errors.ts";
import { makeOwnFolder } from "../../files/own-folder.ts";
import { within } from "../../within.ts";

/** A server that has not opened its disk by then never will: chains of images on a slow file system take seconds. */
export const START_MS = 30_000;
const RETRY_MS = 20;
/** A server that has closed the connection has this long to say why. */
export const STATUS_MS = 500;
/** What it has to end after SIGTERM, and after SIGKILL. */
export const KILL_MS = 2000;
/** What is kept of the server's stderr, in UTF-16 units. */
const MAX_SAID = 2000;
/** `sun_path` of Linux, without the zero at its end. */
const MAX_SOCKET_PATH = 107;
/** What `connect` says while the server doesn't listen yet. */
const NOT_YET = new Set(["ENOENT", "ECONNREFUSED"]);

export interface ServerOptions {
  /** The image; an absolute path, which QEMU can't take for an address or an option. */
  readonly path: string;
  /** QEMU's name of the image's format; else QEMU tells it by the first bytes. */
  readonly imageFormat?: string | undefined;
  /** What is run; `qemu-nbd` unless given. */
  readonly program?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds to start in; 30 s unless given. */
  readonly startMs?: number;
}

/** A qemu-nbd that has one client, and ends with it: also where this process is killed. */
export interface NbdServer {
  readonly socket: Socket;
  /** Why the connection was lost, in the server's own words if it has any. */
  explain(): Promise<ShrinkerError>;
  /** Ends the server. Never rejects. */
  stop(): Promise<void>;
}

/**
 * Starts qemu-nbd on an image, read-only, and connects to it over a socket in a private folder, which is gone once that is
 * done. Rejects with `input`, and what qemu-nbd says, where the image can't be opened.
 */
export async function startServer(options: ServerOptions): Promise<NbdServer> {
  const { path, imageFormat, program = "qemu-nbd", signal, startMs = START_MS } = options;
  const unfit = (why: string) => new ShrinkerError("input", `Cannot read "${path}": ${why}`);
  const folder = await makeOwnFolder(tmpdir(), "shrinker-nbd-").catch((error) => {
    throw fileError("Cannot make a folder in", tmpdir(), error);
  });
  let child: ChildProcess | undefined;
  let stop = async () => {};
  try {
    const address = join(folder.path, "socket");
    if (Buffer.byteLength(address) > MAX_SOCKET_PATH)
      throw new ShrinkerError("input", `"${tmpdir()}" is too long for a socket's path; set TMPDIR to a shorter one`);
    const format = imageFormat === undefined ? [] : [`--format=${imageFormat}`];
    // A group of its own: the terminal's SIGINT is for this process, which ends the other in order.
    child = spawn(program, ["--read-only", `--socket=${address}`, ...format, "--", path], {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    });
    const { exited, closed, failed, said } = watch(child);
    stop = () => end(child!, exited);

    const explain = async () => {
      const how = await within(closed, STATUS_MS);
      return unfit(said() || (how === undefined ? `${program} closed the connection` : `${program} ended with ${how}`));
    };
    const until = performance.now() + startMs;
    for (;;) {
      if (signal?.aborted) throw abortReason(signal);
      const error = failed();
      if (systemCode(error) === "ENOENT") throw unfit(`${program} is not installed; install qemu-utils`);
      if (error) throw unfit(`${program} cannot be run: ${error.message}`);
      if (child.exitCode !== null || child.signalCode !== null) throw await explain();
      const socket = await tryConnect(address);
      if (socket) return { socket, explain, stop };
      if (performance.now() > until) throw unfit(`${program} has not opened it within ${startMs / 1000} s`);
      await sleep(RETRY_MS);
    }
  } catch (error) {
    await stop();
    throw error;
  } finally {
    // The connection is there, or never will be; nobody needs the socket's name any more.
    await folder[Symbol.asyncDispose]().catch(() => {});
  }
}

/** Follows a process: what it said on one line, how it ended, and why it could not be started. */
function watch(child: ChildProcess) {
  let text = "";
  let failure: Error | undefined;
  child.stderr!.setEncoding("utf8").on("data", (piece: string) => {
    text = (text + piece).slice(0, MAX_SAID);
  });
  const exited = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  // After the last of stderr.
  const closed = new Promise<string>((resolve) => {
    child.on("close", (status, signal) => resolve(signal === null ? `status ${status}` : `signal ${signal}`));
  });
  child.on("error", (error) => {
    failure = error;
  });
  const said = () =>
    text
      .trim()
      .replaceAll(/^(qemu-nbd: )+/gm, "")
      .replaceAll(/\s*\n\s*/g, "; ");
  return { exited, closed, failed: () => failure, said };
}

/** Connects to a socket; undefined where nobody listens there yet. */
function tryConnect(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const onError = (error: Error) => {
      socket.destroy();
      if (NOT_YET.has(systemCode(error) ?? "")) resolve(undefined);
      else reject(new ShrinkerError("input", `Cannot connect to "${path}": ${error.message}`, { cause: error }));
    };
    socket.once("error", onError);
    socket.once("connect", () => {
      socket.removeListener("error", onError);
      // Whoever reads it learns of errors; before, they would end the process.
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

async function end(child: ChildProcess, exited: Promise<void>): Promise<void> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    try {
      process.kill(child.pid, signal);
    } catch {
      // It has ended by itself.
    }
    await within(exited, KILL_MS);
  }
}
