import type { ContentBroker } from "../engine/broker.ts";
import type { DestinationSite } from "../engine/site.ts";
import { ShrinkerError } from "../errors.ts";
import { LogWriter, trimLogs } from "../store/content-log.ts";
import type { Store } from "../store/store.ts";
import type { Against, SiteInfo } from "../wire/control.ts";
import { MAX_PAST_LOGS } from "../wire/numbers.ts";
import { isHeld } from "./index-hold.ts";
import { MAX_PAST_CONTENTS, openLogs, readPast } from "./past-logs.ts";
import type { Seeds } from "./seeds.ts";
import type { SharedStore } from "./shared-store.ts";
import { combineIdentity, summarize } from "./summary.ts";

/** Missing seeds that a message names. */
const MAX_NAMED = 20;

export interface SiteParts {
  readonly store?: SharedStore | undefined;
  readonly seeds?: Seeds | undefined;
  /** Whether what the session brings goes into the store. */
  readonly keep: boolean;
}

/** Opens what a destination holds, for one session: its store and its seeds. */
export async function openStoreSite(parts: SiteParts, against: Against | undefined): Promise<DestinationSite> {
  const { seeds } = parts;
  const store = await parts.store?.enter();
  try {
    if (against) await check(against, store, seeds);
    return await site(parts, store);
  } catch (error) {
    if (store) await parts.store!.leave();
    throw error;
  }
}

async function site({ store: shared, seeds, keep }: SiteParts, store: Store | undefined): Promise<DestinationSite> {
  const logs = store ? await openLogs(store.layout.logs) : [];
  const { id, generation } = combineIdentity(store?.identity, seeds);
  const contents = (store?.count ?? 0) + (seeds?.count ?? 0);
  const info: SiteInfo = {
    id,
    generation,
    contents,
    logs: logs.map(({ session, length }) => ({ session, length })),
  };
  const brokers: ContentBroker[] = [];
  if (store) brokers.push(store);
  if (seeds) brokers.push(seeds);
  let log: LogWriter | undefined;
  let disowned = false;
  return {
    info,
    brokers,
    async begin(session) {
      if (!store || !keep) return [];
      log = await LogWriter.create(store.layout.logs, session);
      return [store, log];
    },
    past: (first, count, target, at) => readPast(logs, first, count, target, at),
    summary: (bits) => summarize(store, seeds, bits),
    disown() {
      disowned = true;
    },
    async close() {
      for (const open of logs) open.close();
      if (!store) return;
      try {
        await (disowned ? log?.remove() : log?.end());
        if (keep) await trimLogs(store.layout.logs, MAX_PAST_CONTENTS, MAX_PAST_LOGS);
      } finally {
        await shared!.leave();
      }
    },
  };
}

/**
 * What a bundle leaves out must be here: the same store, in the same generation unless it holds what the index lists, and the
 * same seeds.
 */
async function check(against: Against, store: Store | undefined, seeds: Seeds | undefined): Promise<void> {
  const { index, site, generation, seeds: listed } = against;
  const missing = (what: string) => {
    const message = `The bundle was made against the index ${hex(index)}, and leaves out ${what}`;
    return new ShrinkerError("input", message);
  };
  if (site) {
    if (!store) throw missing("the contents of a store: name that with --store DIR");
    if (Buffer.compare(site, store.identity.site) !== 0) {
      throw missing(`the contents of the store ${hex(site)}, and ${store.name} is ${hex(store.identity.site)}`);
    }
    const changed = generation && Buffer.compare(generation, store.identity.generation) !== 0;
    if (changed && !(await isHeld(store.layout, index))) {
      throw missing(
        `contents of ${store.name} as it was before it was pruned: index it again (with --hold), and make the bundle against that`,
      );
    }
  }
  const absent = listed.filter((seed) => !seeds?.has(seed));
  if (absent.length === 0) return;
  const names = absent.slice(0, MAX_NAMED).map(({ name, size }) => `"${name}" (${size} bytes)`);
  const more = absent.length > MAX_NAMED ? ` and of ${absent.length - MAX_NAMED} more` : "";
  throw missing(`the contents of ${names.join(", ")}${more}: name what is missing with --seed FILE`);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex").slice(0, 12);
}
