/**
 * What does a large store cost to open, and to ask? A store of which only the index is real, of random digests; each measured in a process of
 * its own.
 *
 *     sh cli/bun bench/open.ts [DIGESTS]          # 10000000 by default
 */
import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DIGEST_SIZE } from "../core/content/page.ts";
import { DigestIndex } from "../core/store/digest-index.ts";
import { openLayout } from "../core/store/layout.ts";
import { runName, writeRun } from "../core/store/run-file.ts";
import { Store } from "../core/store/store.ts";
import { run, table, withFolder } from "./support/run.ts";

const COUNT = Number(process.argv[2] ?? 10_000_000);
const ASKED = 200_000;
const DOMAIN = "default";

interface Measured {
  readonly seconds: number;
  readonly rss: number;
  readonly perSecond: number;
}

if (process.env.STORE) await measure(process.env.STORE);
else
  await withFolder(async (folder) => {
    const dir = join(folder, "store");
    await make(dir);
    const rows: (string | number)[][] = [];
    for (let i = 0; i < 3; i++) {
      process.env.STORE = dir;
      const { stdout } = await run("sh", [
        fileURLToPath(new URL("../cli/bun", import.meta.url)),
        fileURLToPath(import.meta.url),
      ]);
      const { seconds, rss, perSecond } = JSON.parse(stdout) as Measured;
      rows.push([i + 1, seconds.toFixed(2), (rss / COUNT).toFixed(1), (perSecond / 1e6).toFixed(2)]);
    }
    console.log(`Input: an index of ${COUNT} random digests\n`);
    table(["run", "open (s)", "bytes of RAM a digest", "million look-ups a second"], rows);
  });

async function make(dir: string): Promise<void> {
  const layout = await openLayout(dir, DOMAIN, true);
  const builder = DigestIndex.builder();
  const digests = Buffer.alloc(4096 * DIGEST_SIZE);
  for (let done = 0; done < COUNT; done += 4096) {
    randomFillSync(digests);
    for (let i = 0; i < Math.min(4096, COUNT - done); i++) {
      DigestIndex.put(builder, digests, i * DIGEST_SIZE, { pack: 1, offset: done }, i % 256);
    }
  }
  await writeRun(join(layout.index, runName({ from: 1, to: 1 })), { covered: new Map(), table: builder.build() });
}

/** Prints what opening took, in seconds, and in resident memory beyond what there was. */
async function measure(dir: string): Promise<void> {
  const before = process.memoryUsage.rss();
  const since = performance.now();
  const store = await Store.open(dir, { domain: DOMAIN });
  const seconds = (performance.now() - since) / 1000;
  const rss = process.memoryUsage.rss() - before;
  const asked = new Uint8Array(ASKED * DIGEST_SIZE);
  for (let at = 0; at < asked.length; at += 1 << 16) randomFillSync(asked, at, Math.min(1 << 16, asked.length - at));
  const begun = performance.now();
  let held = 0;
  for (let i = 0; i < ASKED; i++) if (store.has(asked, i)) held++;
  const perSecond = ASKED / ((performance.now() - begun) / 1000);
  await store.close();
  console.log(JSON.stringify({ seconds, rss, perSecond, held }));
}
