import { listJournals } from "../core/handover/journal.ts";
import type { JournalEntry } from "../core/handover/journal-entry.ts";
import type { Output } from "./output.ts";
import { table } from "./text.ts";
import { formatTime } from "./units.ts";

/** What each phase means for the guest, at the end that has the journal. */
const MEANING: Record<JournalEntry["phase"], string> = {
  begun: "is here",
  given: "stands still here; the destination has not said that it runs there",
  aborted: "is here; the destination may have a paused copy",
  prepared: "is not here yet",
  loaded: "a paused copy is here; the source has not given it away",
  taken: "is here",
  lost: "its copy died here before it ran",
};

/** And where it has begun to go on before all of its memory was there. */
const POSTCOPY: Partial<Record<`${JournalEntry["role"]} ${JournalEntry["phase"]}`, string>> = {
  "source begun": "is being handed over by post-copy",
  "source given": "goes on at the destination; part of its memory may be here only: see migrate --recover",
  "destination loaded": "a paused copy is here, which may lack part of its memory",
  "destination taken": "is here, and may lack part of its memory",
};

/** Lists migrations that are under way, or were interrupted, by their journals. */
export async function listMigrations(state: string, output: Output): Promise<number> {
  const entries = await listJournals(state);
  for (const { id, role, phase, postcopy = false, name, qmp, to, began, changed } of entries) {
    const more = { ...(postcopy && { postcopy }), ...(to !== undefined && { to }) };
    output.event({ type: "migration", id, role, phase, name, qmp, ...more, began, changed });
  }
  const rows = entries.map(({ name, role, phase, postcopy, changed }) => [
    name,
    role,
    phase,
    formatTime(Date.parse(changed)),
    (postcopy && POSTCOPY[`${role} ${phase}`]) || MEANING[phase],
  ]);
  if (rows.length === 0) output.result(["no migration is under way here, and none was interrupted"]);
  else output.result(table([["guest", "end", "phase", "since", "the guest"], ...rows], 5));
  output.event({ type: "summary", ok: true, migrations: entries.length });
  return 0;
}
