import { join } from "node:path";
import type { DestinationOptions } from "../core/engine/destination-session.ts";
import { nothingHere } from "../core/site/nothing.ts";
import { Seeds } from "../core/site/seeds.ts";
import { SharedStore } from "../core/site/shared-store.ts";
import { openStoreSite } from "../core/site/store-site.ts";
import type { Options } from "./options.ts";
import { readState } from "./settings.ts";

interface SiteContext {
  readonly domain: string;
  readonly signal: AbortSignal;
  readonly note: (message: string) => void;
  /** Whether what arrives is kept. */
  readonly keep: boolean;
}

/** What `--store` and `--seed` make of a destination. Seeds are read now; the store is opened by each session. */
export async function siteOpener(options: Options, context: SiteContext): Promise<DestinationOptions["openSite"]> {
  const { domain, signal, note, keep } = context;
  const dir = options.text("store");
  const paths = options.all("seed");
  if (dir === undefined && paths.length === 0) return nothingHere;
  const state = readState(options);
  const cache = state === undefined ? undefined : join(state, "seeds");
  const seeds = paths.length > 0 ? await Seeds.open(paths, cache, signal) : undefined;
  const store = dir === undefined ? undefined : new SharedStore(dir, { domain, write: keep, warn: note });
  return (against) => openStoreSite({ store, seeds, keep }, against);
}
