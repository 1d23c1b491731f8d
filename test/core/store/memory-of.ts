/**
 * Prints how many bytes of memory a digest takes in what is named by the argument, `recent` or `runs`, once a million of them are
 * in it. A process of its own, whose memory is nobody else's.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { RecentContents } from "../../../core/store/recent.ts";

const COUNT = 1_000_000;
const BLOCK = 4096;
const words = new Int32Array(BLOCK * 8);
const digests = new Uint8Array(words.buffer);
let state = 1;

/** The next block of digests, as good as random (xorshift32). */
function next(): void {
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
}

type Runtime = { Bun?: { gc(force: boolean): void }; gc?: () => void };

/** Bytes that are in use. */
function used(): number {
  const { Bun, gc } = globalThis as Runtime;
  Bun?.gc(true);
  gc?.();
  const { heapUsed, external } = process.memoryUsage();
  // Bun's heap has what is external, V8's has not.
  return Bun ? heapUsed : heapUsed + external;
}

function recent(): RecentContents {
  const contents = new RecentContents();
  for (let number = 0; number < COUNT; number++) {
    if (number % BLOCK === 0) next();
    if (number % 256 === 0) Object.assign(contents.begin(), { place: { pack: 1, offset: number }, end: number + 1 });
    contents.add(words, (number % BLOCK) * 8);
  }
  return contents;
}

/** An index of several runs, as it is after it was opened. */
async function runs(folder: string): Promise<DigestIndex> {
  const writer = await DigestIndex.open(folder, () => {});
  for (const share of [0.8, 0.16, 0.04]) {
    const builder = DigestIndex.builder();
    for (let number = 0; number < COUNT * share; number++) {
      if (number % BLOCK === 0) next();
      DigestIndex.put(builder, digests, (number % BLOCK) * 32, { pack: 1, offset: number }, 0);
    }
    await writer.add(builder.build(), new Map([[1, 99]]), false);
  }
  return DigestIndex.open(folder, () => {});
}

const folder = mkdtempSync(join(tmpdir(), "shrinker-memory-"));
try {
  const before = used();
  const kept = process.argv[2] === "runs" ? await runs(folder) : recent();
  // What was made on the way is collected in a turn of its own.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const bytes = (used() - before) / COUNT;
  console.log(JSON.stringify({ bytes, count: kept.count }));
} finally {
  rmSync(folder, { recursive: true });
}
