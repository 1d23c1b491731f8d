import { LinkError, ShrinkerError } from "../errors.ts";
import { QmpClient, QmpTimeout } from "../machines/qemu/qmp.ts";
import { runState } from "../machines/qemu/run-state.ts";
import { socketIdentity } from "../machines/qemu/socket-path.ts";
import type { JournalEntry } from "./journal.ts";

const NEVER = new AbortController().signal;

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

/**
 * Makes sure that a guest does not run here before it is let run elsewhere, whoever has let it. Resolves with the connection to
 * its QEMU, perhaps another one than was given, which is closed then; undefined where its QEMU has ended. Rejects with
 * `refused` where it runs.
 */
export async function standingStill(entry: JournalEntry, qmp: QmpClient | undefined): Promise<QmpClient | undefined> {
  try {
    if (qmp) await checkStill(entry, qmp);
    if (qmp) return qmp;
  } catch (error) {
    if (!(error instanceof LinkError) || error instanceof QmpTimeout) throw error;
    await qmp?.close();
  }
  const again = await reach(entry);
  try {
    if (again) await checkStill(entry, again);
    return again;
  } catch (error) {
    await again?.close();
    throw error;
  }
}

async function checkStill({ name }: JournalEntry, qmp: QmpClient): Promise<void> {
  const { running } = await runState(qmp);
  if (running)
    throw new ShrinkerError("refused", `"${name}" runs at the source though it was sent: somebody has let it run`);
}
