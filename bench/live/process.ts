/** Programs inside a site's network namespace, and waits that end. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { highWater } from "../support/run.ts";

const POLL_MS = 20;
const GRACE_SECONDS = 5;

export interface Running extends AsyncDisposable {
  /** Peak of resident memory so far, in bytes, of the process itself. */
  readonly peak: number;
  /** Resolves once what it has printed matches; rejects when it ends before. */
  said(pattern: RegExp, seconds: number): Promise<void>;
  /** Resolves when it has ended by itself with 0; rejects with what it printed otherwise. */
  succeeded(seconds: number): Promise<void>;
}

/** Rejects where `work` has not ended within `seconds`; `work` itself goes on. */
export async function within<T>(seconds: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Starts a program in the namespace; `ip` becomes that program, so its pid is the program's. It ends with its disposal. */
export function start(netns: string, command: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const child = spawn("ip", ["netns", "exec", netns, ...command], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const name = command.join(" ");
  const ended = new Promise<Error | undefined>((resolve) => {
    child.on("error", (cause) => resolve(cause));
    child.on("close", (code, signal) =>
      resolve(code === 0 ? undefined : new Error(`${name} ended (${signal ?? code}): ${text.trim().slice(-500)}`)),
    );
  });
  let text = "";
  let heard = () => {};
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (piece: string) => {
      text = (text + piece).slice(-1e6);
      heard();
    });
  }
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, highWater(child.pid ?? 0));
  }, POLL_MS);
  void ended.then(() => clearInterval(timer));
  const gone = () => child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
  return {
    get peak() {
      return peak;
    },
    said(pattern, seconds) {
      const found = new Promise<void>((resolve, reject) => {
        heard = () => pattern.test(text) && resolve();
        heard();
        void ended.then((failure) => reject(failure ?? new Error(`${name} ended without saying ${pattern}: ${text}`)));
      });
      return within(seconds, `${name} says ${pattern}`, found);
    },
    async succeeded(seconds) {
      const failure = await within(seconds, name, ended);
      if (failure) throw failure;
    },
    async [Symbol.asyncDispose]() {
      if (gone()) return;
      const exit = once(child, "exit");
      child.kill("SIGTERM");
      await within(GRACE_SECONDS, name, exit).catch(() => child.kill("SIGKILL"));
      if (!gone()) await within(GRACE_SECONDS, name, exit);
    },
  };
}
