/**
 * Prints how many bytes of memory a digest takes in what is named by the argument, one of `KINDS`, once a million of them are
 * in it. A process of its own, whose memory is nobody else's.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ContentSet } from "../../../core/site/content-set.ts";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { KnownPlaces } from "../../../core/store/known-places.ts";
import type { Layout } from "../../../core/store/layout.ts";
import { LiveContents } from "../../../core/store/live-contents.ts";
import { NumberSet } from "../../../core/store/number-set.ts";
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
  // V8 gives memory outside of its heap back when it looks again.
  gc?.();
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

/** Of a store, as `verify` looks at it. */
async function places(folder: string) {
  await runs(folder);
  const packs = join(folder, "packs");
  mkdirSync(packs);
  const known = await KnownPlaces.open({ index: folder, packs } as Layout);
  return { known, count: COUNT };
}

/** As `prune` gathers them. */
function needed(): LiveContents {
  const set = new ContentSet();
  for (let number = 0; number < COUNT; number++) {
    if (number % BLOCK === 0) next();
    set.add(digests, (number % BLOCK) * 32);
  }
  return new LiveContents(set.table());
}

/** As a recording is looked through. */
function numbers() {
  const set = new NumberSet();
  for (let number = 0; number < COUNT; number += 3) set.add(number);
  return { set, count: COUNT };
}

const KINDS: Readonly<Record<string, (folder: string) => { count: number } | Promise<{ count: number }>>> = {
  ...{ recent, runs, places, needed, numbers },
};

const folder = mkdtempSync(join(tmpdir(), "shrinker-memory-"));
try {
  const before = used();
  const kept = await KINDS[process.argv[2]!]!(folder);
  // What was made on the way is collected in a turn of its own.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const bytes = (used() - before) / COUNT;
  console.log(JSON.stringify({ bytes, count: kept.count }));
} finally {
  rmSync(folder, { recursive: true });
}
