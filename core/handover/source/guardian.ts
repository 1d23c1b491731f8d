import { setTimeout as sleep } from "node:timers/promises";
import { Journal } from "../journal.ts";
import { reclaim } from "./reclaim.ts";

/** The process that died may take a moment to let go of its journals; its QEMU may be busy, or serve somebody else. */
export const GUARDING = { tries: 120, retryMs: 100, maxRetryMs: 1000 };

/**
 * Has guests go on that a process was moving which has died: those that it had not given away. To be called once that process has
 * ended, however it did; where it has ended in order there is nothing to do. Never rejects; gives up after some minutes.
 * @param ids of the migrations, as in their journals
 * @param patience attempts, and milliseconds from one to the next: as many times `retryMs` as there were, at most `maxRetryMs`
 */
export async function guard(state: string, ids: readonly string[], patience = GUARDING): Promise<void> {
  await Promise.all(ids.map((id) => guardOne(state, id, patience)));
}

async function guardOne(state: string, id: string, { tries, retryMs, maxRetryMs }: typeof GUARDING): Promise<void> {
  for (let attempt = 1; attempt <= tries; attempt++) {
    let journal: Journal | undefined;
    try {
      journal = await Journal.resume(state, { role: "source", id });
      if (journal?.entry.phase === "begun") await reclaim(journal);
      return;
    } catch {
      // Where another process works on it, that does what has to be done: then it ends soon.
    } finally {
      await journal?.release();
    }
    await sleep(Math.min(retryMs * attempt, maxRetryMs));
  }
}
