import { setTimeout as sleep } from "node:timers/promises";
import { NEVER } from "../interruptible.ts";
import { QmpAbsent, QmpClient, QmpLost } from "../machines/qemu/qmp.ts";
import { socketIdentity } from "../machines/qemu/socket-path.ts";
import type { JournalEntry } from "./journal-entry.ts";

type Reached = Pick<JournalEntry, "qmp" | "socket" | "keeper">;

/** A process that is killed closes its connections before its listening socket, which takes new ones as long. */
const MOST_LOST = 50;
const STEP_MS = 20;

/**
 * Connects to the QEMU that a journal is about, by way of whoever keeps a connection to it. Undefined where it has ended, or is
 * about to, also where another one has its socket's path now: that has nothing to do with the migration. Rejects where it can't
 * be told, as with a QEMU that serves somebody else.
 */
export async function reach({ qmp: path, socket, keeper }: Reached, signal = NEVER): Promise<QmpClient | undefined> {
  for (let lost = 1; ; lost++) {
    if ((await socketIdentity(path)) !== socket) return undefined;
    // One that has ended, or is about to, is not needed any more, or has died.
    const kept = keeper === undefined ? undefined : await QmpClient.connect(keeper, { signal }).catch(() => undefined);
    if (kept) return kept;
    try {
      return await QmpClient.connect(path, { signal });
    } catch (error) {
      if (error instanceof QmpAbsent) return undefined;
      // Not so long, but so often: one that takes seconds to die may hold a connection until then.
      if (!(error instanceof QmpLost) || lost === MOST_LOST) throw error;
    }
    await sleep(STEP_MS);
  }
}
