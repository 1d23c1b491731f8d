/**
 * What does it take to move running guests? Four of them at once, from one network namespace to another, by QEMU alone, by QEMU
 * with XBZRLE, with multifd and zstd, through a cable of two processes that pass bytes on, and digest them, through `shrinker tunnel`, and by
 * `shrinker migrate`. Needs root, QEMU and a kernel (`.ci/qemu`).
 *
 *     sh cli/bun bench/live.ts [--runs 3] [--links shaped,delayed,unshaped] [--ways plain,xbzrle,multifd,cable,digests,tunnel,shrinker] [--json]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildGuest, lacking } from "../test/support/qemu/guest.ts";
import { startCluster, WORKLOADS } from "./live/cluster.ts";
import { inspect } from "./live/measure.ts";
import { describeInput, type Measured, type Outcome, report } from "./live/report.ts";
import { makeSites, removeSites, type Shape } from "./live/sites.ts";
import { ports, WAYS } from "./live/ways.ts";

const LINKS: Readonly<Record<string, Shape>> = {
  shaped: { rate: 100e6, delay: 0 },
  delayed: { rate: 100e6, delay: 25 },
  unshaped: { delay: 0 },
};

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "3" },
    links: { type: "string", default: Object.keys(LINKS).join() },
    ways: { type: "string", default: Object.keys(WAYS).join() },
    json: { type: "boolean", default: false },
  },
});
const runs = Number(values.runs);
if (!Number.isSafeInteger(runs) || runs < 1) throw new Error(`"${values.runs}" is no number of runs`);
const links = chosen(LINKS, values.links);
const ways = chosen(WAYS, values.ways);
const problem = lacking() ?? (process.getuid?.() === 0 ? undefined : "network namespaces need root");
if (problem) throw new Error(problem);

function chosen<T>(from: Readonly<Record<string, T>>, names: string): [string, T][] {
  return names.split(",").map((name) => {
    const value = from[name];
    if (value === undefined) throw new Error(`"${name}" is none of ${Object.keys(from).join(", ")}`);
    return [name, value];
  });
}

const stack = new AsyncDisposableStack();
let cleaned: Promise<void> | undefined;
let exitCode: number | undefined;
/** Undoes everything, once. With the sites ends all that runs in them, and then what waits for that. */
async function clean(): Promise<void> {
  cleaned ??= stack.disposeAsync();
  await cleaned;
  if (exitCode !== undefined) process.exit(exitCode);
}
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  process.once(signal, () => {
    exitCode ??= code;
    void clean();
  });
}

try {
  // Not where the other benches work: the path becomes part of a socket's, and nothing large is written.
  const folder = mkdtempSync(join(tmpdir(), "live-"));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  stack.defer(removeSites);
  const guest = await buildGuest(join(folder, "guest"));
  const outcomes: Outcome[] = [];
  for (const [link, shape] of links) outcomes.push(...(await measureLink(folder, link, shape)));
  const input = describeInput(guest);
  if (values.json) console.log(JSON.stringify({ input, runs, outcomes }, undefined, 2));
  else report(input, runs, outcomes);
  if (outcomes.some(({ failures }) => failures.length > 0)) process.exitCode = 1;

  async function measureLink(folder: string, link: string, shape: Shape): Promise<Outcome[]> {
    const found = ways.map(([way]) => ({ link, shape, way, measured: [] as Measured[], failures: [] as string[] }));
    // The rivals take turns, so that a machine that slows down slows all of them.
    for (let run = 0; run < runs; run++) {
      for (const [i, [name, way]] of ways.entries()) {
        const tell = (what: string) => process.stderr.write(`${link}, run ${run + 1}, ${name}: ${what}\n`);
        try {
          const one = await measure(join(folder, `${link}${run}${i}`), shape, way);
          found[i]!.measured.push(one);
          tell(JSON.stringify(one));
        } catch (error) {
          if (exitCode !== undefined) throw error;
          const reason = error instanceof Error ? error.message : String(error);
          found[i]!.failures.push(reason);
          tell(`failed: ${reason}`);
        }
      }
    }
    return found;
  }

  async function measure(folder: string, shape: Shape, way: (typeof WAYS)[string]): Promise<Measured> {
    await using sites = await makeSites(shape, ports(Object.keys(WORKLOADS).length));
    await using cluster = await startCluster(folder, guest, sites);
    const before = await sites.carried();
    const { span, peaks } = await way(cluster, sites);
    const wire = (await sites.carried()) - before;
    const gaps = await inspect(cluster, span);
    return { wire, seconds: (span.ended - span.begun) / 1000, gaps, ...(peaks && { peaks }) };
  }
} finally {
  await clean();
}
