/** The command on the runtime that runs the tests, as a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";

const main = resolve(import.meta.dirname, "../../cli/main.ts");
/** The program and its first arguments. */
export const COMMAND: readonly string[] =
  "Deno" in globalThis ? [process.execPath, "run", "-A", "--no-check", main] : [process.execPath, main];

/** The same as text for a shell, for `exec:`. */
export const SHELL_COMMAND = COMMAND.map((word) => `'${word}'`).join(" ");

/** The runner's own settings must not reach what is tested. Keys are the business of few tests: those say `SHRINKER_INSECURE: "0"`. */
const env = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SHRINKER_"))),
  SHRINKER_INSECURE: "1",
  // No folder: whoever runs the tests may have an identity.
  XDG_CONFIG_HOME: "/dev/null",
};

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: Uint8Array;
  /** The program and its first arguments, in the place of those of the runtime that runs the tests. */
  readonly command?: readonly string[];
  /** After which it is killed; 60 unless given. */
  readonly seconds?: number;
}

export interface CliResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** The lines of stdout as JSON. */
  events(): Record<string, unknown>[];
}

export interface RunningCli extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly result: Promise<CliResult>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the first match in what the process has said so far, on stdout or stderr. */
  said(pattern: RegExp): Promise<RegExpExecArray>;
}

const SECONDS = 60;

/** Starts the command; it is killed when it is disposed of, or after its time. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const [program, ...first] = (options.command ?? COMMAND) as [string, ...string[]];
  const child = spawn(program, [...first, ...args], {
    cwd: options.cwd,
    env: { ...env, ...options.env },
    timeout: (options.seconds ?? SECONDS) * 1000,
    killSignal: "SIGKILL",
  });
  const stdout: Buffer[] = [];
  let words = "";
  let wake = () => {};
  child.stdout.on("data", (piece: Buffer) => {
    stdout.push(piece);
    wake();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    words += text;
    wake();
  });
  child.stdin.on("error", () => {});
  child.stdin.end(options.input);
  let ended = false;
  const result = once(child, "close").then(([code]): CliResult => {
    ended = true;
    wake();
    const bytes = Buffer.concat(stdout);
    const events = () =>
      bytes
        .toString()
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
    return { code: code as number | null, stdout: bytes, stderr: words, events };
  });
  return {
    child,
    result,
    kill(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      try {
        // Not child.kill(): Deno then reports that signal as the end, whatever the child did.
        process.kill(child.pid!, signal);
      } catch (error) {
        // It has ended just now.
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    },
    async said(pattern) {
      for (;;) {
        const text = `${Buffer.concat(stdout)}\n${words}`;
        const match = pattern.exec(text);
        if (match) return match;
        if (ended) throw new Error(`${args.join(" ")} ended without saying ${pattern}: ${text}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async [Symbol.asyncDispose]() {
      if (!ended) child.kill("SIGKILL");
      await result;
    },
  };
}

/** Runs the command to its end. */
export async function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  await using running = startCli(args, options);
  return await running.result;
}
