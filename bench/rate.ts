/**
 * How fast is the engine where nothing is compressed? Against the rate of one core's SHA-256 over the 4 KiB pages of the same
 * stream: to nowhere (`--dry-run`), without and with the SHA-256 of the whole file, and to a bundle on a disk. Start-up counts.
 *
 *     sh cli/bun bench/rate.ts [STREAM...]        # by default a guest of 2 GiB whose pages are all new; RUNS=5, medians
 */
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { sha256Into } from "../core/runtime.ts";
import { contentName, pagesOfThisMachine, writeGuest } from "./support/guests.ts";
import { median, shrinker, table, withFolder } from "./support/run.ts";

const RUNS = Number(process.env.RUNS ?? 5);
const HASHED_BYTES = 128 << 20;
const MEMORY = 2 ** 31;

await withFolder(async (folder) => {
  const files = process.argv.slice(2);
  if (files.length === 0) {
    const own = join(folder, "guest.qevm");
    const runs = [{ from: 0, pages: MEMORY / 4096, version: 0 }];
    writeGuest(own, { seed: 1, memory: MEMORY, runs, zeros: 0, own: 16 }, pagesOfThisMachine(1 << 30));
    files.push(own);
  }
  const to = `file:${join(folder, "site.bundle")}`;
  const rates: Record<"nowhere" | "both" | "disk" | "sha256", number[]> = {
    nowhere: [],
    both: [],
    disk: [],
    sha256: [],
  };
  // The rivals take turns; the first turn warms up.
  for (let i = 0; i <= RUNS; i++) {
    const nowhere = await shrinker("migrate", ...files, "--to", to, "--dry-run", "--compress", "none");
    const both = await shrinker("migrate", ...files, "--to", to, "--dry-run", "--compress", "none", "--sha256");
    const disk = await shrinker("migrate", ...files, "--to", to, "--force", "--compress", "none");
    const digests = digestRate(files[0]!);
    if (i === 0) continue;
    rates.nowhere.push(nowhere.summary.bytes.plain / nowhere.seconds);
    rates.both.push(both.summary.bytes.plain / both.seconds);
    rates.disk.push(disk.summary.bytes.plain / disk.seconds);
    rates.sha256.push(digests);
  }
  const sha256 = median(rates.sha256);
  const row = (name: string, rate: number) => [name, (rate / 1e9).toFixed(2), (rate / sha256).toFixed(2)];
  console.log(`Input: ${files.map(contentName).join("; ")}; ${RUNS} runs, medians`);
  table(
    ["what", "GB/s", "of SHA-256"],
    [
      row("SHA-256 of 4 KiB pages, one core", sha256),
      row("migrate --compress none --dry-run", median(rates.nowhere)),
      row("migrate --compress none --dry-run --sha256", median(rates.both)),
      row("migrate --compress none --to file:", median(rates.disk)),
    ],
  );
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
