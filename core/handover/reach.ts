import { ShrinkerError } from "../errors.ts";
import { NEVER } from "../interruptible.ts";
import { QmpClient } from "../machines/qemu/qmp.ts";
import { socketIdentity } from "../machines/qemu/socket-path.ts";
import type { JournalEntry } from "./journal-entry.ts";

/**
 * Connects to the QEMU that a journal is about, by way of whoever keeps a connection to it. Undefined where it has ended, also where another one has its socket's path
 * now: that has nothing to do with the migration. Rejects where it can't be told, as with a QEMU that serves somebody else.
 */
export async function reach(entry: Pick<JournalEntry, "qmp" | "socket" | "keeper">, signal = NEVER) {
  const { qmp: path, socket, keeper } = entry;
  if ((await socketIdentity(path)) !== socket) return undefined;
  // One that has ended, or is about to, is not needed any more, or has died.
  const kept = keeper === undefined ? undefined : await QmpClient.connect(keeper, { signal }).catch(() => undefined);
  if (kept) return kept;
  try {
    return await QmpClient.connect(path, { signal });
  } catch (error) {
    if (error instanceof ShrinkerError && error.code === "input") return undefined;
    throw error;
  }
}
