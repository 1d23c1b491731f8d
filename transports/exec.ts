import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { abortReason, LinkError, ShrinkerError } from "../core/errors.ts";
import type { Connection, Transport } from "../core/transport/transport.ts";
import { within } from "../core/within.ts";
import { socketError } from "./advice.ts";
import { streamConnection } from "./stream.ts";

/** A command that closed its pipes has this long to say why, by its status. */
export const STATUS_MS = 500;
/** What a command has to end after SIGTERM, before SIGKILL. */
export const KILL_MS = 2000;

const STATUS_ADVICE: Record<number, string> = {
  126: " (a command cannot be run: check its permissions)",
  127: " (command not found: check its spelling, and that it is installed, here or on the other machine)",
  255: " (ssh uses it when it cannot connect: its own messages say why)",
};

interface Exit {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * Whether somebody at a terminal could be asked something. Then the command stays in this session, or ssh couldn't ask
 * for a password; otherwise it gets a session of its own, so that all of its processes can be ended.
 */
function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r+"));
    return true;
  } catch {
    return false;
  }
}

function kill(child: ChildProcess, ownGroup: boolean, signal: NodeJS.Signals): void {
  try {
    if (ownGroup) process.kill(-child.pid!, signal);
    else child.kill(signal);
  } catch {
    // It has ended by itself.
  }
}

function describe(peer: string, { status, signal }: Exit): LinkError {
  const how = signal === null ? `status ${status}${STATUS_ADVICE[status!] ?? ""}` : `signal ${signal}`;
  return new LinkError(`The command of ${peer} ended with ${how}`);
}

function connect(child: ChildProcess, peer: string, ownGroup: boolean, exited: Promise<Exit>): Connection {
  return streamConnection({
    peer,
    readable: child.stdout!,
    writable: child.stdin!,
    async explain(error) {
      const exit = await within(exited, STATUS_MS);
      return exit ? describe(peer, exit) : socketError("Lost the connection to", peer, error);
    },
    async ended() {
      const exit = await within(exited, STATUS_MS);
      if (exit !== undefined && exit.status !== 0) throw describe(peer, exit);
    },
    async dropped() {
      // Where both sides have ended, it is about to end by itself.
      const orderly = child.stdout!.readableEnded && child.stdin!.writableFinished;
      if (orderly && (await within(exited, STATUS_MS))) return;
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        if (child.exitCode !== null || child.signalCode !== null) return;
        kill(child, ownGroup, signal);
        await within(exited, KILL_MS);
      }
    },
  });
}

/** `exec:COMMAND`: the stdin and stdout of `/bin/sh -c COMMAND`, such as `ssh HOST shrinker receive --stdio`. */
export const exec: Transport = {
  scheme: "exec",
  // A command that is run again is another process, which doesn't know the session.
  resumable: false,
  authenticates: false,
  async dial({ rest, text }, { signal }) {
    if (signal.aborted) throw abortReason(signal);
    if (rest.trim() === "" || rest.includes("\0"))
      throw new ShrinkerError("usage", `Cannot run "${text}": expected exec:COMMAND`);
    const ownGroup = !hasTerminal();
    const child = spawn("/bin/sh", ["-c", rest], { stdio: ["pipe", "pipe", "inherit"], detached: ownGroup });
    const exited = new Promise<Exit>((resolve) => child.once("exit", (status, signal) => resolve({ status, signal })));
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.on("error", (error) => reject(new LinkError(`Cannot run ${text}: ${error.message}`, { cause: error })));
    });
    const connection = connect(child, text, ownGroup, exited);
    if (signal.aborted) {
      await connection.destroy();
      throw abortReason(signal);
    }
    return connection;
  },
  async listen({ text }) {
    throw new ShrinkerError("usage", `Cannot listen at "${text}": the command has to run \`receive --stdio\` instead`);
  },
};
