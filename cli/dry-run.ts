import type { SiteKnowledge, SiteMemory } from "../core/engine/site.ts";
import { openSession, type SourceOptions } from "../core/engine/source-session.ts";
import { countBytes } from "../core/transport/count.ts";
import type { Connection } from "../core/transport/transport.ts";
import { formatBytes } from "./units.ts";

/** What a destination has said, and how it was asked. */
export interface Asked {
  /** In force for a session with it, and what of its contents such a session would know. */
  readonly options: Pick<SourceOptions, "windowLog" | "logLimit" | "site">;
  /** For `--json`. */
  readonly event: object;
  /** For people. */
  readonly note: string;
}

/**
 * Has a session of no streams with a destination, for what it says of itself and what is known of its contents. Nothing is
 * kept of it at either end but a summary of those contents, here. Rejects as a session does.
 */
export async function askDestination(dialled: Connection, options: SourceOptions): Promise<Asked> {
  const connection = countBytes(dialled);
  let known: SiteKnowledge | undefined;
  const memory: SiteMemory | undefined = options.memory && {
    async meet(site, session, summarize) {
      known = await options.memory!.meet(site, session, summarize);
      return known;
    },
  };
  const session = await openSession(connection, { ...options, memory });
  try {
    await session.finish(0);
  } catch (error) {
    await session.abort(error as Error);
    throw error;
  }
  const { software, domain, windowLog, logLimit, site } = session.agreement;
  const { peer } = connection;
  const wire = connection.bytesIn + connection.bytesOut;
  const holds = site ? `, which holds about ${site.contents} contents` : "";
  return {
    options: { windowLog, logLimit, ...(known && { site: known }) },
    event: { type: "asked", peer, software, domain, ...(site && { contents: site.contents }), wire },
    note: `asking ${peer}${holds}, took ${formatBytes(wire)}`,
  };
}
