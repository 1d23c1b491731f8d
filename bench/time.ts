/**
 * How long does it take? Making a bundle and receiving it, start-up included, against `tar | zstd -3 --long=31 -T1` on the same
 * streams; and without compression, to a disk and to nowhere, against the rate of one core's SHA-256 over their 4 KiB pages.
 *
 *     sh cli/bun bench/time.ts [STREAM...]        # RUNS=5 by default; medians
 */
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { sha256Into } from "../core/runtime.ts";
import { contentName, streams } from "./support/guests.ts";
import { median, pipeline, type Run, shrinker, table, withFolder } from "./support/run.ts";

const RUNS = Number(process.env.RUNS ?? 5);
const HASHED_BYTES = 128 << 20;

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
  let plain = 0;
  const rates: number[] = [];
  // The rivals take turns, so that a machine that slows down slows all of them.
  for (let i = 0; i <= RUNS; i++) {
    if (i === 1) for (const name of Object.keys(times)) times[name] = []; // The first turn warms up.
    await measure("tar", () =>
      pipeline('for f; do echo "$f"; done | tar c -P -T - | zstd -3 --long=31 -T1 -q -c >/dev/null', files),
    );
    await measure("make", async () => {
      const made = await shrinker("migrate", ...files, "--to", `file:${bundle}`, "--force");
      plain = made.summary.bytes.plain;
      return made;
    });
    await measure("receive", () => shrinker("receive", `file:${bundle}`, "--output", output, "--force"));
    await measure("none", () =>
      shrinker("migrate", ...files, "--to", `file:${bundle}`, "--force", "--compress", "none"),
    );
    await measure("nowhere", () =>
      shrinker("migrate", ...files, "--to", `file:${bundle}`, "--dry-run", "--compress", "none"),
    );
    rates.push(digestRate(files[0]!));
  }
  const of = (name: string) => median(times[name]!);
  const rate = median(rates.slice(1));
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
      row("migrate --compress none --to file:", of("none"), "SHA-256 of pages, rate", plain / of("none") / rate, ""),
      row(
        "migrate --compress none --dry-run",
        of("nowhere"),
        "SHA-256 of pages, rate",
        plain / of("nowhere") / rate,
        ">= 0.5",
      ),
    ],
  );
  console.log(`One core's SHA-256 over 4 KiB pages: ${(rate / 1e9).toFixed(2)} GB/s.`);
});

/** Bytes a second of one core that digests pages. */
function digestRate(path: string): number {
  const buffer = Buffer.alloc(HASHED_BYTES);
  const fd = openSync(path, "r");
  const length = readSync(fd, buffer) & ~4095;
  closeSync(fd);
  const pages = Array.from({ length: length / 4096 }, (_, i) => buffer.subarray(i * 4096, (i + 1) * 4096));
  const into = new Uint8Array(32);
  const since = performance.now();
  for (const page of pages) sha256Into(page, into);
  return length / ((performance.now() - since) / 1000);
}
