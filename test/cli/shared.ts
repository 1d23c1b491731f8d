/** Machines that share contents, a store that has some of them, and the command in one folder. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cli } from "../support/cli.ts";
import { noise } from "./files.ts";

export const PAGE = 4096;

/** A page that no codec makes smaller, by its number; 0 is a page of zeros. */
export function page(n: number): Buffer {
  return n === 0 ? Buffer.alloc(PAGE) : noise(PAGE, n);
}

export function pages(...numbers: readonly number[]): Buffer {
  return Buffer.concat(numbers.map(page));
}

export function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

export interface Shared extends Disposable {
  path(...names: string[]): string;
  /** `--store` and the store that has `base.raw`, as the snapshot `monday`. */
  readonly inStore: readonly string[];
}

/**
 * `base.raw` has the pages 1 to 200; `web.raw` 50 of them elsewhere, 20 zeros, 30 of its own of which 10 come twice, and an
 * end of 7 bytes; `db.raw` 40 of the base in their places, and one of its own.
 */
export async function shared(): Promise<Shared> {
  const folder = mkdtempSync(join(tmpdir(), "sites-"));
  const path = (...names: string[]) => join(folder, ...names);
  const inStore = ["--store", path("store")];
  writeFileSync(path("base.raw"), pages(...range(1, 200)));
  const web = [...range(101, 50), ...new Array<number>(20).fill(0), ...range(1001, 30), ...range(1001, 10)];
  writeFileSync(path("web.raw"), Buffer.concat([pages(...web), Buffer.from("the end")]));
  writeFileSync(path("db.raw"), pages(...range(1, 40), 2001));
  const kept = await cli(["snapshot", path("base.raw"), ...inStore, "--name", "monday"]);
  if (kept.code !== 0) throw new Error(kept.stderr);
  return { path, inStore, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}

/** What `--json` says at the end. */
export interface Summary {
  readonly ok: boolean;
  readonly bytes: Record<string, number | null>;
  readonly pages: Record<string, number | null>;
  readonly wire: Record<string, number>;
  readonly sample: Record<string, Record<string, number>>;
  readonly sources: string[];
  readonly shared: number[][];
  readonly index: { path: string; digest: string; contents: number; seeds: object[] };
  readonly hold: { name: string; expires: string };
  readonly [field: string]: unknown;
}

/** Runs a command with `--json`; returns its code, its lines and the last of them, and what stderr said. */
export async function run(...args: readonly string[]) {
  const { code, stderr, events } = await cli([...args, "--json"]);
  const all = events();
  return { code, stderr, events: all, summary: all.at(-1) as unknown as Summary };
}

/** Only what a mistake of the caller may look like: one line. */
export function expectError(
  { code, stderr }: { code: number | null; stderr: string },
  expected: number,
  words: string,
) {
  expect([code, stderr.split("\n").length, stderr.startsWith("shrinker: ")]).toEqual([expected, 2, true]);
  expect(stderr).toContain(words);
}
