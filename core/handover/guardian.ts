import { setTimeout as sleep } from "node:timers/promises";
import { ShrinkerError } from "../errors.ts";
import { Journal } from "./journal.ts";
import { reclaim } from "./settle.ts";

/** The process that died may take a moment to let go of its journals. */
const TRIES = 50;
const RETRY_MS = 100;

/**
 * Has guests go on that a process was moving which has died: those that it had not given away. To be called once that process has
 * ended, however it did; where it has ended in order there is nothing to do. Never rejects.
 * @param ids of the migrations, as in their journals
 */
export async function guard(state: string, ids: readonly string[]): Promise<void> {
  await Promise.all(ids.map((id) => guardOne(state, id).catch(() => {})));
}

async function guardOne(state: string, id: string): Promise<void> {
  for (let tries = 0; tries < TRIES; tries++) {
    try {
      const journal = await Journal.resume(state, { role: "source", id });
      if (journal?.entry.phase === "begun") await reclaim(journal);
      await journal?.release();
      return;
    } catch (error) {
      // Another process that works on it does what has to be done.
      if (!(error instanceof ShrinkerError) || error.code !== "refused") throw error;
      await sleep(RETRY_MS);
    }
  }
}
