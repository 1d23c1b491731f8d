import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const LAUNCHER = fileURLToPath(new URL("../../cli/shrinker", import.meta.url));
const POLL_MS = 20;
const LIMIT_MS = 15 * 60_000;

export interface Run {
  readonly seconds: number;
  /** Peak of resident memory, in bytes, of the process itself. */
  readonly peak: number;
  readonly stdout: string;
}

/** Runs a command to its end and measures it from outside. Rejects where it fails or takes 15 minutes. */
export function run(command: string, args: readonly string[]): Promise<Run> {
  const since = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], timeout: LIMIT_MS });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, highWater(child.pid!));
  }, POLL_MS);
  child.stdout.on("data", (piece: Buffer) => output.push(piece));
  child.stderr.on("data", (piece: Buffer) => errors.push(piece));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      clearInterval(timer);
      const seconds = (performance.now() - since) / 1000;
      if (code === 0) resolve({ seconds, peak, stdout: Buffer.concat(output).toString() });
      else reject(new Error(`${command} ${args.join(" ")} ended with ${code}: ${Buffer.concat(errors).toString()}`));
    });
  });
}

/** Runs `shrinker` with `--json` and reads its summary. */
export async function shrinker(...args: string[]): Promise<Run & { summary: Summary }> {
  const result = await run("sh", [LAUNCHER, ...args, "--json"]);
  const last = result.stdout.trimEnd().split("\n").at(-1) ?? "";
  return { ...result, summary: JSON.parse(last) as Summary };
}

export interface Summary {
  readonly bytes: Readonly<Record<"plain" | "zero" | "deduplicated" | "new" | "delta" | "wire", number>>;
}

/** A shell pipeline, for baselines; its files are passed as `$1`, `$2`, ... */
export function pipeline(script: string, files: readonly string[]): Promise<Run> {
  return run("sh", ["-c", script, "sh", ...files]);
}

/** Makes a folder for the work, on a disk, and removes it at the end. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(
    join(process.env.SHRINKER_SPOOL ?? (tmpdir() === "/tmp" ? "/var/tmp" : tmpdir()), "bench-"),
  );
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

/** Prints rows of cells as a Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const lines = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  console.log(lines.join("\n"));
}

export function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

/** Peak of a process's resident memory so far, in bytes; 0 once it has ended. */
export function highWater(pid: number): number {
  try {
    const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
    return match ? Number(match[1]) * 1024 : 0;
  } catch {
    return 0; // It has just ended.
  }
}
