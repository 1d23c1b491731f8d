import { LinkError, ShrinkerError } from "../../errors.ts";
import { type QmpClient, QmpTimeout } from "../../machines/qemu/qmp.ts";
import { runState } from "../../machines/qemu/run-state.ts";
import type { JournalEntry } from "../journal-entry.ts";
import { reach } from "../reach.ts";

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
