import { setTimeout as sleep } from "node:timers/promises";
import { runState } from "../../machines/qemu/run-state.ts";
import type { QemuSource } from "../../machines/qemu/source.ts";
import type { Journal } from "../journal.ts";
import type { Talk } from "./mailbox.ts";

/** What the last word gets to be on its way. */
const CONFIRM_MS = 1000;

/**
 * The guest runs at the destination: ends the source's QEMU, unless that is to stay, and the journals of both ends. Never
 * rejects.
 */
export async function confirm(journal: Journal, talk: Talk, machine: QemuSource | undefined): Promise<void> {
  const { keepSource, settings } = journal.entry;
  try {
    // It may have died, or be gone already: what counts runs elsewhere.
    if (keepSource) await (machine && settings && machine.restore(settings));
    // Nothing but what the guest has left.
    else if (machine && !(await runState(machine.qmp)).running) await machine.quit();
  } catch {}
  await machine?.qmp.close();
  // During an outage it isn't said before that is over; the destination can do without.
  const said = Promise.race([
    talk.say({ type: "confirm" }).catch(() => {}),
    sleep(CONFIRM_MS, undefined, { ref: false }),
  ]);
  try {
    await journal.remove();
  } catch {
    // The next run asks the destination once more.
    await journal.release();
  }
  await said;
}
