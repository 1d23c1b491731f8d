/**
 * How many bytes cross? The streams as one bundle, one after another and interleaved, against compressing each by itself,
 * compressing them together, and the paper's way (each distinct page once, uncompressed, and 20 bytes a reference).
 *
 *     sh cli/bun bench/bytes.ts [STREAM...]
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import { contentName, streams } from "./support/guests.ts";
import { megabytes, pipeline, shrinker, table, withFolder } from "./support/run.ts";

const REFERENCE_BYTES = 20;

await withFolder(async (folder) => {
  const files = streams(process.argv.slice(2), folder);
  const bundle = join(folder, "site.bundle");
  const make = (...options: string[]) => shrinker("migrate", ...files, "--to", `file:${bundle}`, "--force", ...options);
  const together = await make();
  const interleaved = await make("--parallel", String(files.length));
  const { plain, deduplicated } = together.summary.bytes;
  const each = await pipeline('for f; do zstd -1 -T1 -q -c "$f" | wc -c; done', files);
  const all = await pipeline('cat "$@" | zstd -3 --long=31 -T1 -q -c | wc -c', files);
  const sum = (text: string) =>
    text
      .trim()
      .split("\n")
      .reduce((total, line) => total + Number(line), 0);
  const paper = plain - deduplicated + (deduplicated / 4096) * REFERENCE_BYTES;
  const row = (name: string, bytes: number) => [name, megabytes(bytes), (bytes / plain).toFixed(4)];
  console.log(`Input: ${files.map(contentName).join("; ")}`);
  table(
    ["how", "MB", "of plain"],
    [
      row("plain", plain),
      row("page deduplication alone, 20-byte references", paper),
      row("zstd -1, each by itself", sum(each.stdout)),
      row("cat \\| zstd -3 --long=31 (2 GiB window)", sum(all.stdout)),
      row("shrinker, one after another", together.summary.bytes.wire),
      row(`shrinker, --parallel ${files.length}`, interleaved.summary.bytes.wire),
    ],
  );
  table(
    ["shrinker", "plain", "zero", "deduplicated", "new", "of that as XOR", "wire (MB)"],
    [together, interleaved].map(({ summary: { bytes } }, i) => [
      i === 0 ? "one after another" : "interleaved",
      ...[bytes.plain, bytes.zero, bytes.deduplicated, bytes.new, bytes.delta, bytes.wire].map(megabytes),
    ]),
  );
  if (statSync(bundle).size !== interleaved.summary.bytes.wire) throw new Error("the bundle differs from its summary");
});
