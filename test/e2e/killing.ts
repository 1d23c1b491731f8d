/** Kills the command at points of time that a seed gives, and machines that change from one to the next. */
import { watch } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type CliResult, cli, type RunningCli, startCli } from "../support/cli.ts";

/** A failing run is repeated, as far as time lets it, with `CRASH_SEED` set to what it has printed. */
export const SEED = Number(process.env.CRASH_SEED) || Date.now() % 1_000_000_007;

/** Numbers in `[0, 1)`, always the same for a seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b_79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type Random = () => number;

const PAGE = 4096;

/** An image of noise, text and zeros. */
export class Image {
  readonly bytes: Buffer;
  readonly #random: Random;
  #number = 0;

  constructor(random: Random, pages: number) {
    this.#random = random;
    this.bytes = Buffer.alloc(pages * PAGE + 100, "the end");
    this.change(1);
  }

  /** Writes about so many of its pages anew. */
  change(share: number): void {
    for (let at = 0; at + PAGE <= this.bytes.length; at += PAGE) {
      if (this.#random() >= share) continue;
      const page = this.bytes.subarray(at, at + PAGE);
      const kind = this.#random();
      if (kind < 0.1) page.fill(0);
      else if (kind < 0.3) page.fill(`line ${this.#number++} of ${this.#random()}\n`);
      else for (let i = 0; i < PAGE; i += 4) page.writeUInt32LE(this.#random() * 2 ** 32, i);
    }
  }
}

/** When to kill: so many milliseconds after the start, or at the so many-th change in some folders. */
export type Moment = { readonly after: number } | { readonly changes: number; readonly folders: readonly string[] };

/** A moment within a command that takes `typical` milliseconds, or one of its changes. */
export function anyMoment(random: Random, typical: number, changes: number, folders: readonly string[]): Moment {
  if (random() < 0.6) return { after: random() * typical };
  return { changes: 1 + Math.floor(random() * changes), folders };
}

/**
 * Kills a process at its moment, or when something else is over: folders may say less often that they have changed than they have.
 * Resolves, once the process has ended, with whether that was why.
 */
export async function killAt(running: RunningCli, moment: Moment, over?: Promise<unknown>): Promise<boolean> {
  const reached = Promise.withResolvers<void>();
  let seen = 0;
  const watched = "folders" in moment ? moment.folders : [];
  const watchers = watched.map((folder) =>
    watch(folder, () => {
      if ("changes" in moment && ++seen === moment.changes) reached.resolve();
    }),
  );
  if ("after" in moment) void sleep(moment.after).then(reached.resolve);
  await Promise.race([reached.promise, running.result, ...(over ? [over] : [])]);
  for (const watcher of watchers) watcher.close();
  const { exitCode } = running.child;
  if (exitCode === null) running.kill("SIGKILL");
  const { code } = await running.result;
  return exitCode === null && code === null;
}

/** Runs a command and kills it at a moment; resolves with whether it was killed. */
export async function runAndKill(args: readonly string[], moment: Moment): Promise<boolean> {
  await using running = startCli(args);
  return await killAt(running, moment);
}

/** Runs a command that has to succeed; resolves with what it said, and how many milliseconds it took. */
export async function mustRun(args: readonly string[]): Promise<CliResult & { took: number }> {
  const begun = performance.now();
  const result = await cli(args);
  if (result.code !== 0) throw new Error(`${args.join(" ")}: exit code ${result.code}: ${result.stderr}`);
  return { ...result, took: performance.now() - begun };
}
