/**
 * How long does it take? Making a bundle and receiving it, start-up included, against `tar | zstd -3 --long=31 -T1` on the same
 * streams.
 *
 *     sh cli/bun bench/time.ts [STREAM...]        # RUNS=5 by default; medians
 */
import { join } from "node:path";
import { contentName, streams } from "./support/guests.ts";
import { median, pipeline, type Run, shrinker, table, withFolder } from "./support/run.ts";

const RUNS = Number(process.env.RUNS ?? 5);

await withFolder(async (folder) => {
  const files = streams(process.argv.slice(2), folder);
  const bundle = join(folder, "site.bundle");
  const output = join(folder, "out");
  const times: Record<string, number[]> = {};
  const measure = async (name: string, work: () => Promise<Run>) => {
    const { seconds } = await work();
    times[name] ??= [];
    times[name].push(seconds);
  };
  // The rivals take turns, so that a machine that slows down slows all of them.
  for (let i = 0; i <= RUNS; i++) {
    if (i === 1) for (const name of Object.keys(times)) times[name] = []; // The first turn warms up.
    await measure("tar", () =>
      pipeline('for f; do echo "$f"; done | tar c -P -T - | zstd -3 --long=31 -T1 -q -c >/dev/null', files),
    );
    await measure("make", () => shrinker("migrate", ...files, "--to", `file:${bundle}`, "--force"));
    await measure("receive", () => shrinker("receive", `file:${bundle}`, "--output", output, "--force"));
  }
  const of = (name: string) => median(times[name]!);
  console.log(`Input: ${files.map(contentName).join("; ")}; ${RUNS} runs, medians`);
  const row = (name: string, seconds: number, against: string, ratio: number, bound: string) => [
    name,
    seconds.toFixed(2),
    against,
    ratio.toFixed(2),
    bound,
  ];
  table(
    ["what", "s", "against", "ratio", "bound"],
    [
      row("tar \\| zstd -3 --long=31 -T1", of("tar"), "", 1, ""),
      row("migrate --to file:", of("make"), "tar \\| zstd", of("make") / of("tar"), "<= 1.5"),
      row("receive file:", of("receive"), "migrate --to file:", of("receive") / of("make"), "<= 1"),
    ],
  );
});
