import { setTimeout as sleep } from "node:timers/promises";
import { Journal } from "../journal.ts";
import { reclaim } from "./reclaim.ts";

/** The process that died may take a moment to let go of its journals; its QEMU may be busy, or serve somebody else. */
const TRIES = 120;
const RETRY_MS = 100;
const MAX_RETRY_MS = 1000;

/**
 * Has guests go on that a process was moving which has died: those that it had not given away. To be called once that process has
 * ended, however it did; where it has ended in order there is nothing to do. Never rejects; gives up after some minutes.
 * @param ids of the migrations, as in their journals
 */
export async function guard(state: string, ids: readonly string[]): Promise<void> {
  await Promise.all(ids.map((id) => guardOne(state, id)));
}

async function guardOne(state: string, id: string): Promise<void> {
  for (let tries = 1; tries <= TRIES; tries++) {
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
    await sleep(Math.min(RETRY_MS * tries, MAX_RETRY_MS));
  }
}
