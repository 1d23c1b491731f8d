import { told } from "../../engine/told.ts";
import { ShrinkerError } from "../../errors.ts";
import { Journal } from "../journal.ts";
import type { JournalEntry } from "../journal-entry.ts";
import type { ClusterLink } from "./cluster-link.ts";
import type { Talk } from "./mailbox.ts";

/**
 * Has the destination drop what it has of migrations that were given up. What it can't be told stays for another time.
 * @param options the state folder, and where guests go, as in their journals
 */
export async function forgetAborted(
  { mailbox, session }: ClusterLink,
  aborted: readonly JournalEntry[],
  options: { readonly state: string; readonly to: string },
): Promise<void> {
  for (const entry of aborted) {
    // Another destination would know nothing of it.
    if (entry.to !== options.to) continue;
    const journal = await Journal.resume(options.state, entry);
    if (!journal) continue;
    const talk = mailbox.open(journal.migration, session.tell);
    await forget(journal, talk).catch(() => {});
    await journal.release();
    mailbox.close(talk);
  }
}

/** Has the destination drop what it may have of a migration that was given up here, and ends its journal. */
export async function forget(journal: Journal, talk: Talk): Promise<boolean> {
  const dropped = await dropCopy(talk, new ShrinkerError("cancelled", "an earlier attempt was given up"));
  if (dropped) await journal.remove();
  else await journal.release();
  return dropped;
}

/** Tells the destination to drop its copy. Resolves with whether it has; never rejects. */
export async function dropCopy(talk: Talk, error: ShrinkerError): Promise<boolean> {
  const signal = AbortSignal.timeout(talk.waits.dropMs);
  // During an outage it isn't said before that is over; nobody waits for it.
  try {
    await talk.ask({ type: "cancel", ...told(error) }, ["cancelled"], { signal, skip: true });
    return true;
  } catch {
    return false;
  }
}
