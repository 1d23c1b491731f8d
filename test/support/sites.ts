/** Destinations with a store, and sources that remember them, in folders of their own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SiteMemory } from "../../core/engine/site.ts";
import { Seeds } from "../../core/site/seeds.ts";
import { SharedStore } from "../../core/site/shared-store.ts";
import { siteMemory } from "../../core/site/site-memory.ts";
import { openStoreSite } from "../../core/site/store-site.ts";
import type { Receiving } from "./session.ts";

export interface TestSite {
  readonly folder: string;
  /** The store's folder. */
  readonly dir: string;
  /** Where the source remembers. */
  readonly state: string;
  /** Options for the destination's end of a session. */
  receiving(seeds?: Seeds): Receiving;
  memory(): SiteMemory;
  remove(): void;
}

export function testSite(): TestSite {
  const folder = mkdtempSync(join(tmpdir(), "shrinker-site-"));
  const dir = join(folder, "store");
  const state = join(folder, "state");
  const store = new SharedStore(dir, { domain: "test", write: true, warn: () => {} });
  return {
    folder,
    dir,
    state,
    receiving: (seeds) => ({ openSite: (against) => openStoreSite({ store, seeds, keep: true }, against) }),
    memory: () => siteMemory({ folder: state, domain: "test", plain: undefined, warn: () => {} }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Seeds without a cache. */
export function seedsOf(...paths: string[]): Promise<Seeds> {
  return Seeds.open(paths, undefined, new AbortController().signal);
}
