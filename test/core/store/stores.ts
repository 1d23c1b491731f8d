/** Stores in folders of their own, and snapshots in them, made and restored in this process. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SiteIndex } from "../../../core/index/site-index.ts";
import { snapshotPath } from "../../../core/site/manifest.ts";
import { type PruneOptions, pruneStore } from "../../../core/site/prune-store.ts";
import { SharedStore } from "../../../core/site/shared-store.ts";
import { openStoreSite } from "../../../core/site/store-site.ts";
import { type VerifyStoreOptions, verifyStore } from "../../../core/site/verify-store.ts";
import { type Layout, openLayout } from "../../../core/store/layout.ts";
import { listPacks, packHeader, packPath } from "../../../core/store/pack.ts";
import { Store } from "../../../core/store/store.ts";
import { known, memoryTarget, record, replay, source } from "../../support/session.ts";

export const PAGE = 4096;
export const DOMAIN = "test";

/** Whatever is asked for is in the store by then. */
const everything: SiteIndex = {
  async lookup(_digests, count, held) {
    held.fill(1, 0, count);
  },
  async insert() {},
  async close() {},
};

/** A page that is its number's alone: half of it is noise (xorshift32), half compresses to nothing. */
export function page(number: number): Buffer {
  const words = new Uint32Array(PAGE / 4);
  let x = (number + 1) * 2_654_435_761;
  for (let i = 0; i < words.length / 2; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return Buffer.from(words.buffer);
}

/** A machine of these pages, and a few bytes that are in none. */
export function machine(...pages: number[]): Buffer {
  return Buffer.concat([...pages.map(page), Buffer.from("the end")]);
}

/** `[from, to)`. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

export interface TestStore extends Disposable {
  readonly dir: string;
  /** Once something was kept. */
  layout(): Promise<Layout>;
  /** Makes a snapshot of one machine. */
  keep(name: string, bytes: Buffer): Promise<void>;
  /** Reads a snapshot back; rejects where it can't be had whole. */
  restore(name: string): Promise<Buffer>;
  /** Whether a snapshot comes back as these bytes. */
  restores(name: string, bytes: Buffer): Promise<boolean>;
  verify(options?: Partial<VerifyStoreOptions>): ReturnType<typeof verifyStore>;
  prune(options?: Partial<PruneOptions>): ReturnType<typeof pruneStore>;
  /** Packs that there are, and the path of one. */
  packs(): Promise<number[]>;
  pack(number: number): Promise<string>;
  /** What is kept from now on goes to another pack. */
  nextPack(): Promise<void>;
  /** Changes a file of the domain. */
  change(path: string, change: (bytes: Buffer) => Uint8Array | undefined): void;
}

/** @param dir removed in the end */
export function testStore(dir = mkdtempSync(join(tmpdir(), "shrinker-prune-"))): TestStore {
  const layout = () => openLayout(dir, DOMAIN, false);
  const restore = async (name: string) => {
    const store = new SharedStore(dir, { domain: DOMAIN });
    const files = memoryTarget();
    const bytes = readFileSync(snapshotPath(await layout(), name));
    const openSite = () => openStoreSite({ store, keep: false }, undefined);
    const { streams } = await replay(bytes, files, { domain: DOMAIN, openSite });
    const error = streams.find(({ error }) => error)?.error;
    if (error) throw error;
    return files.get("machine").bytes;
  };
  return {
    dir,
    layout,
    restore,
    async keep(name, bytes) {
      const store = await Store.open(dir, { domain: DOMAIN, write: true });
      try {
        const sources = [source("machine", "raw", [bytes])];
        const manifest = await record(sources, { domain: DOMAIN, site: known(everything), keepers: [store] });
        await store.flush();
        writeFileSync(snapshotPath(store.layout, name), manifest);
      } finally {
        await store.close();
      }
    },
    restores: (name, bytes) =>
      restore(name).then(
        (found) => Buffer.compare(found, bytes) === 0,
        () => false,
      ),
    verify: (options = {}) => verifyStore(dir, { domain: DOMAIN, readData: false, now: Date.now(), ...options }),
    prune: (options = {}) =>
      pruneStore(dir, {
        ...{ domain: DOMAIN, forget: [], release: [], repack: false, keepReceived: 0, dryRun: false, now: Date.now() },
        ...options,
      }),
    packs: async () => listPacks((await layout()).packs),
    pack: async (number) => packPath((await layout()).packs, number),
    async nextPack() {
      const { packs } = await layout();
      writeFileSync(packPath(packs, ((await listPacks(packs)).at(-1) ?? 0) + 1), packHeader());
    },
    change(path, change) {
      const bytes = readFileSync(path);
      writeFileSync(path, change(bytes) ?? bytes);
    },
    [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }),
  };
}
