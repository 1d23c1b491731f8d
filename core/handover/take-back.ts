import { told } from "../engine/told.ts";
import { ShrinkerError } from "../errors.ts";
import type { QemuSource } from "../machines/qemu/source.ts";
import type { Journal } from "./journal.ts";
import type { Talk } from "./mailbox.ts";

/** What the destination gets to say that it has dropped its copy. */
const CANCEL_MS = 2000;

export interface TakenBack {
  readonly machine: QemuSource;
  readonly journal: Journal;
}

/**
 * Has a guest that was not given away go on at the source, and tells the destination to drop what it has. Where that doesn't
 * answer the journal stays, so that it is told the next time. Never rejects.
 */
export async function takeBack({ machine, journal }: TakenBack, talk: Talk, error: ShrinkerError): Promise<void> {
  const forgotten = dropCopy(talk, error);
  await goOn(machine, journal);
  await machine.qmp.close();
  try {
    if (await forgotten) await journal.remove();
    else {
      await journal.update({ phase: "aborted" });
      await journal.release();
    }
  } catch {
    // A journal that can't be written says that the guest may be here, which is right.
    await journal.release();
  }
}

/** The guest goes on here, and QEMU's settings are what they were. Whoever calls it knows that it was not given away. */
export async function goOn(machine: QemuSource, journal: Journal): Promise<void> {
  try {
    await machine.cancel();
  } catch (error) {
    // A migration that has completed is still ours: nobody was told that the guest may run there.
    const completed = error instanceof ShrinkerError && error.code === "refused";
    if (completed && machine.guestRan !== false) await machine.resumeGuest().catch(() => {});
  }
  const { settings } = journal.entry;
  if (settings) await machine.restore(settings).catch(() => {});
}

/** Tells the destination to drop its copy. Resolves with whether it has; never rejects. */
export async function dropCopy(talk: Talk, error: ShrinkerError): Promise<boolean> {
  const signal = AbortSignal.timeout(CANCEL_MS);
  try {
    await talk.say({ type: "cancel", ...told(error) });
    // What it said before it heard of this doesn't matter any more.
    for (;;)
      if ((await talk.hear(["cancelled", "prepared", "loaded", "failed", "refused"], { signal })).type === "cancelled")
        return true;
  } catch {
    return false;
  }
}
