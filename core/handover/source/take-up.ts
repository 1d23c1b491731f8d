import { Journal, listJournals } from "../journal.ts";
import type { JournalEntry } from "../journal-entry.ts";
import { reclaim } from "./reclaim.ts";

/** What earlier runs have left. */
export interface Left {
  /** Of guests that were given away: nobody knows here whether they run at the destination. */
  readonly given: readonly JournalEntry[];
  /** Of guests that are here, of which the destination may have a copy. */
  readonly aborted: readonly JournalEntry[];
}

/**
 * Looks what earlier runs have left of guests, and has those go on that were not given away. Rejects with `refused` where
 * another process moves one of them, and where one can't be brought to go on.
 * @param sockets paths of their QMP sockets
 */
export async function takeUp(state: string, sockets: readonly string[]): Promise<Left> {
  const given: JournalEntry[] = [];
  const aborted: JournalEntry[] = [];
  for (const { role, id, qmp } of await listJournals(state)) {
    if (role !== "source" || !sockets.includes(qmp)) continue;
    const journal = await Journal.resume(state, { role, id });
    if (!journal) continue;
    try {
      if (journal.entry.phase === "begun") await reclaim(journal);
      (journal.entry.phase === "given" ? given : aborted).push(journal.entry);
    } finally {
      await journal.release();
    }
  }
  return { given, aborted };
}
