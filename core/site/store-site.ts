import type { ContentBroker } from "../engine/broker.ts";
import type { DestinationSite } from "../engine/site.ts";
import { ShrinkerError } from "../errors.ts";
import { LogWriter, trimLogs } from "../store/content-log.ts";
import type { Store } from "../store/store.ts";
import type { Against, SiteInfo } from "../wire/control.ts";
import { MAX_PAST_LOGS } from "../wire/numbers.ts";
import { MAX_PAST_CONTENTS, openLogs, readPast } from "./past-logs.ts";
import type { Seeds } from "./seeds.ts";
import type { SharedStore } from "./shared-store.ts";
import { combineIdentity, summarize } from "./summary.ts";

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
    if (against) check(against, store, seeds);
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
    async close() {
      for (const open of logs) open.close();
      if (!store) return;
      try {
        await log?.end();
        if (keep) await trimLogs(store.layout.logs, MAX_PAST_CONTENTS, MAX_PAST_LOGS);
      } finally {
        await shared!.leave();
      }
    },
  };
}

/** What a bundle leaves out must be here: the same store in the same generation, and the same seeds. */
function check({ site, generation, seeds: listed }: Against, store: Store | undefined, seeds: Seeds | undefined): void {
  if (site) {
    if (!store) throw missing("the contents of a store: name that with --store DIR");
    if (Buffer.compare(site, store.identity.site) !== 0) {
      throw missing(`the contents of the store ${hex(site)}, and ${store.name} is ${hex(store.identity.site)}`);
    }
    if (generation && Buffer.compare(generation, store.identity.generation) !== 0) {
      throw missing(
        `contents of ${store.name} as it was before it was pruned: index it again (with --hold), and make the bundle against that`,
      );
    }
  }
  const absent = listed.filter((seed) => !seeds?.has(seed));
  if (absent.length === 0) return;
  const names = absent.map(({ name, size }) => `"${name}" (${size} bytes)`).join(", ");
  throw missing(`the contents of ${names}: name what is missing with --seed FILE`);
}

function missing(what: string): ShrinkerError {
  return new ShrinkerError("input", `The bundle leaves out ${what}`);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex").slice(0, 12);
}
