import { told } from "../../engine/told.ts";
import { ShrinkerError } from "../../errors.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import type { Journal, JournalEntry } from "../journal.ts";
import { reach } from "../reach.ts";
import type { Talk } from "./mailbox.ts";
import { hasSwitched } from "./postcopy.ts";

/** What the destination gets to say that it has dropped its copy. */
const CANCEL_MS = 4000;
const TRIES = 3;

export interface TakenBack {
  readonly machine: QemuSource;
  readonly journal: Journal;
}

/**
 * Has a guest that was not given away go on at the source, and tells the destination to drop what it has. Where that doesn't
 * answer the journal stays, so that it is told the next time. Resolves with what to tell the user; never rejects.
 */
export async function takeBack({ machine, journal }: TakenBack, talk: Talk, error: ShrinkerError) {
  const forgotten = dropCopy(talk, error);
  let stuck: unknown;
  await goOn(machine, journal.entry).catch((why) => {
    stuck = why;
  });
  const dropped = await forgotten;
  try {
    if (!stuck && dropped) await journal.remove();
    else {
      // One that stands still is tried again: by the guardian, and by the next run.
      if (!stuck) await journal.update({ phase: "aborted" });
      await journal.release();
    }
  } catch {
    // A journal that can't be written says that the guest may be here, which is right.
    await journal.release();
  }
  if (!stuck) return error;
  const why = stuck instanceof Error ? stuck.message : String(stuck);
  const message = `${error.message}. "${journal.entry.name}" stands still at the source: ${why}; let it run with its monitor's "cont"`;
  return new ShrinkerError(error.code, message, { cause: stuck });
}

/**
 * The guest goes on here as it did before, and QEMU's settings are what they were; closes the connection to QEMU. Whoever calls
 * it knows that the guest was not given away. Rejects where it may stand still; resolves where its QEMU has ended.
 */
export async function goOn(machine: QemuSource, entry: JournalEntry): Promise<void> {
  let { qmp } = machine;
  for (let tries = 1; ; tries++) {
    try {
      return await letGoOn(new QemuSource(qmp, { guestRan: entry.ran }), entry);
    } catch (error) {
      if (tries >= TRIES) throw error;
    } finally {
      await qmp.close();
    }
    const again = await reach(entry);
    if (!again) return;
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

/**
 * Has the guest of a migration that was begun and not given away go on here, after the process that moved it has died. Rejects
 * where it may stand still; the journal says then what it did. One that has switched to post-copy can't, and counts as given.
 */
export async function reclaim(journal: Journal, machine?: QemuSource): Promise<void> {
  const qmp = machine?.qmp ?? (await reach(journal.entry));
  if (qmp && journal.entry.postcopy && (await hasSwitched(qmp))) {
    await qmp.close();
    return journal.update({ phase: "given" });
  }
  if (qmp) await goOn(new QemuSource(qmp), journal.entry);
  await journal.update({ phase: "aborted" });
}

/** Has the destination drop what it may have of a migration that was given up here, and ends its journal. */
export async function forget(journal: Journal, talk: Talk): Promise<boolean> {
  const dropped = await dropCopy(talk, new ShrinkerError("cancelled", "an earlier attempt was given up"));
  if (dropped) await journal.remove();
  else await journal.release();
  return dropped;
}

/** Tells the destination to drop its copy. Resolves with whether it has; never rejects. */
async function dropCopy(talk: Talk, error: ShrinkerError): Promise<boolean> {
  const signal = AbortSignal.timeout(CANCEL_MS);
  // During an outage it isn't said before that is over; nobody waits for it.
  const said = talk.say({ type: "cancel", ...told(error) }).then(() => new Promise<never>(() => {}));
  try {
    await Promise.race([talk.hear(["cancelled"], { signal, skip: true }), said]);
    return true;
  } catch {
    return false;
  }
}
