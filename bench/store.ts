/**
 * What does a store take, and how long? Snapshot and restore against restic and borg, at their defaults, on the same streams;
 * a migration of the same streams again to a warm store; and one to a destination that has another stream as a seed.
 *
 *     sh cli/bun bench/store.ts [STREAM...]       # RUNS=3, medians; a rival that is not installed is left out
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { contentName, streams } from "./support/guests.ts";
import { median, megabytes, pipeline, run, shrinker, table, withFolder } from "./support/run.ts";

const RUNS = Number(process.env.RUNS ?? 3);
const LAUNCHER = fileURLToPath(new URL("../cli/shrinker", import.meta.url));

interface Rival {
  readonly name: string;
  readonly init?: string;
  readonly save: string;
  readonly restore: string;
}

/** Scripts get the repository's folder as `$1`, the output folder as `$2`, and the files behind. */
const RIVALS: readonly Rival[] = [
  {
    name: "restic",
    init: 'RESTIC_PASSWORD=x restic init -q -r "$1"',
    save: 'r=$1; shift 2; RESTIC_PASSWORD=x restic backup -q -r "$r" "$@"',
    restore: 'RESTIC_PASSWORD=x restic restore -q -r "$1" latest --target "$2"',
  },
  {
    name: "borg",
    init: 'borg init -e none "$1" 2>/dev/null',
    save: 'r=$1; shift 2; borg create "$r"::a "$@" 2>/dev/null',
    restore: 'cd "$2" && borg extract "$1"::a',
  },
];

await withFolder(async (folder) => {
  process.env.XDG_STATE_HOME = join(folder, "state");
  process.env.XDG_CACHE_HOME = join(folder, "cache");
  process.env.BORG_BASE_DIR = join(folder, "borg-base");
  const files = streams(process.argv.slice(2), folder);
  console.log(`Input: ${files.map(contentName).join("; ")}; ${RUNS} runs, medians\n`);
  await compareStores(folder, files);
  console.log();
  await migrateAgain(folder, files);
});

async function compareStores(folder: string, files: readonly string[]): Promise<void> {
  const output = join(folder, "out");
  const ours: Rival = {
    name: "shrinker",
    save: `r=$1; shift 2; sh ${LAUNCHER} snapshot "$@" --store "$r" --name a --quiet`,
    restore: `sh ${LAUNCHER} restore a --store "$1" --output "$2" --quiet`,
  };
  const here = RIVALS.filter(({ name }) => spawnSync(name, ["help"]).status === 0);
  const results = [ours, ...here].map((rival) => ({ rival, save: [] as number[], restore: [] as number[], bytes: 0 }));
  // The rivals take turns; the first turn warms up.
  for (let i = 0; i <= RUNS; i++) {
    for (const result of results) {
      const { rival } = result;
      const store = join(folder, rival.name);
      rmSync(store, { recursive: true, force: true });
      rmSync(output, { recursive: true, force: true });
      mkdirSync(output);
      if (rival.init) await pipeline(rival.init, [store]);
      spawnSync("sync"); // What others have written is not to be waited for.
      const saved = await pipeline(rival.save, [store, output, ...files]);
      result.bytes = bytesIn(store);
      spawnSync("sync");
      const restored = await pipeline(rival.restore, [store, output]);
      if (i === 0) continue;
      result.save.push(saved.seconds);
      result.restore.push(restored.seconds);
    }
  }
  const plain = files.reduce((sum, path) => sum + lstatSync(path).size, 0);
  table(
    ["store", "MB", "of plain", "snapshot (s)", "restore (s)"],
    results.map(({ rival, save, restore, bytes }) => [
      rival.name,
      megabytes(bytes),
      (bytes / plain).toFixed(4),
      median(save).toFixed(2),
      median(restore).toFixed(2),
    ]),
  );
}

async function migrateAgain(folder: string, files: readonly string[]): Promise<void> {
  const rows: (string | number)[][] = [];
  const note = (how: string, { wire, plain }: { wire: number; plain: number }, against: number) =>
    rows.push([how, megabytes(plain), (wire / 1e6).toFixed(3), (wire / plain).toFixed(5), (wire / against).toFixed(3)]);
  const store = join(folder, "site");
  const cold = await moved(folder, files, ["--store", store]);
  note("cold", cold, cold.wire);
  note("the same again", await moved(folder, files, ["--store", store]), cold.wire);
  rmSync(join(folder, "state"), { recursive: true, force: true });
  note("the same again, by a source that remembers nothing", await moved(folder, files, ["--store", store]), cold.wire);
  if (files.length > 1) {
    const [first, second] = files as [string, string];
    const alone = await moved(folder, [first], []);
    note(`${contentName(first).split(" ")[0]} alone, cold`, alone, alone.wire);
    const seeded = await moved(folder, [first], ["--seed", second]);
    note(`the same, with ${contentName(second).split(" ")[0]} as a seed`, seeded, alone.wire);
  }
  table(["migration", "plain MB", "wire MB", "of plain", "of cold"], rows);
}

/** Migrates files to a receiver of their own, over TCP. */
async function moved(folder: string, files: readonly string[], options: readonly string[]) {
  const output = join(folder, "out");
  rmSync(output, { recursive: true, force: true });
  const receiver = spawn(
    "sh",
    [
      LAUNCHER,
      "receive",
      "--listen",
      "tcp://127.0.0.1:0",
      "--insecure",
      "--once",
      "--output",
      output,
      "--json",
      ...options,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  try {
    const address = await listening(receiver);
    const { summary } = await shrinker("migrate", ...files, "--to", address, "--insecure");
    if (receiver.exitCode === null) await once(receiver, "exit");
    for (const path of files) await run("cmp", [path, join(output, path.split("/").at(-1)!)]);
    return summary.bytes;
  } finally {
    receiver.kill();
  }
}

async function listening({ stdout }: ChildProcess): Promise<string> {
  let text = "";
  for await (const piece of stdout!) {
    text += piece;
    const address = /"address":"([^"]+)"/.exec(text)?.[1];
    if (address === undefined) continue;
    stdout!.resume();
    return address;
  }
  throw new Error(`the receiver did not listen: ${text}`);
}

function bytesIn(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + lstatSync(join(entry.parentPath, entry.name)).size, 0);
}
