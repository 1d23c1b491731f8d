import { ShrinkerError } from "../../errors.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import type { Journal } from "../journal.ts";
import type { JournalEntry } from "../journal-entry.ts";
import { reach } from "../reach.ts";
import { hasSwitched } from "./postcopy.ts";

const TRIES = 3;

/**
 * Has the guest of a migration that was begun and not given away go on here, after the process that moved it has died. Resolves
 * with whether its QEMU is still there. Rejects where it may stand still; the journal says then what it did. One that has
 * switched to post-copy can't, and counts as given.
 */
export async function reclaim(journal: Journal, machine?: QemuSource): Promise<boolean> {
  const qmp = machine?.qmp ?? (await reach(journal.entry));
  if (qmp && journal.entry.postcopy && (await hasSwitched(qmp))) {
    await qmp.close();
    await journal.update({ phase: "given" });
    return true;
  }
  const there = qmp !== undefined && (await goOn(new QemuSource(qmp), journal.entry));
  await journal.update({ phase: "aborted" });
  return there;
}

/**
 * The guest goes on here as it did before, and QEMU's settings are what they were; closes the connection to QEMU. Whoever calls
 * it knows that the guest was not given away. Rejects where it may stand still; resolves with false where its QEMU has ended.
 */
export async function goOn(machine: QemuSource, entry: JournalEntry): Promise<boolean> {
  let { qmp } = machine;
  for (let tries = 1; ; tries++) {
    try {
      await letGoOn(new QemuSource(qmp, { guestRan: entry.ran }), entry);
      // Nothing may have had to be asked of it.
      if (!qmp.isClosed || tries >= TRIES) return true;
    } catch (error) {
      if (tries >= TRIES) throw error;
    } finally {
      await qmp.close();
    }
    const again = await reach(entry);
    if (!again) return false;
    qmp = again;
  }
}

async function letGoOn(source: QemuSource, { started, settings }: JournalEntry): Promise<void> {
  // What stops it or moves it then is somebody else's, who may even have given it away.
  if (started) {
    try {
      await source.cancel();
    } catch (error) {
      if (!(error instanceof ShrinkerError) || error.code !== "refused") throw error;
      // A migration that has completed is still ours: nobody was told that the guest may run there.
      if ((await source.status()).status !== "completed") throw error;
      if (source.guestRan !== false) await source.resumeGuest();
    }
  }
  if (settings) await source.restore(settings).catch(() => {});
}
