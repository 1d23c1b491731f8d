import { type SpawnOptionsWithoutStdio, spawn } from "node:child_process";

export interface Ran {
  /** The exit code; 128 + the signal's number is not made up: a signal gives `null`. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end with nothing to read, and kills it after `seconds`. */
export function run(
  program: string,
  args: readonly string[],
  { seconds = 60, ...options }: SpawnOptionsWithoutStdio & { seconds?: number } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, timeout: seconds * 1000, killSignal: "SIGKILL" });
    const output = { stdout: "", stderr: "" };
    child.stdin.end();
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        output[name] += text;
      });
    }
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, ...output }));
  });
}

/** As `run`, for a program that must succeed: otherwise it throws with all that the program said. */
export async function must(...call: Parameters<typeof run>): Promise<string> {
  const { code, stdout, stderr } = await run(...call);
  if (code !== 0) throw new Error(`${call[0]} ${call[1].join(" ")}: exit code ${code}\n${stdout}${stderr}`);
  return stdout;
}
