import { setTimeout as sleep } from "node:timers/promises";
import { LinkError, ShrinkerError } from "../../errors.ts";
import { runState } from "../../machines/qemu/run-state.ts";
import type { QemuSource } from "../../machines/qemu/source.ts";
import type { Journal, JournalEntry } from "../journal.ts";
import type { Talk } from "./mailbox.ts";

export interface GiveContext {
  readonly failed: Promise<never>;
  readonly signal: AbortSignal;
}

/** What the destination gets to let the guest run. */
const RUN_MS = 30_000;
/** What the last word gets to be on its way. */
const CONFIRM_MS = 1000;

/**
 * Has the destination let a guest run whose journal says that it was given away. From then on it is not the source's any more,
 * whatever happens. Rejects where the destination doesn't say that it runs.
 */
export async function give(talk: Talk, { failed, signal }: GiveContext): Promise<void> {
  const late = () => new LinkError(`it does not say so within ${RUN_MS / 1000} s`);
  const said = talk.say({ type: "go" }).then(() => new Promise<never>(() => {}));
  await Promise.race([talk.hear(["running"], { signal, timeout: RUN_MS, late }), said, failed]);
}

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

/** Nobody knows here whether the guest runs at the destination. */
export function unsettled({ name, to }: JournalEntry, cause: unknown): ShrinkerError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message =
    `"${name}" was handed over to ${to}, but the destination has not said that it runs there: ${why}. ` +
    `It stands still here. Run the same command again, or see \`shrinker resolve ${name}\``;
  return new ShrinkerError("unsettled", message, { cause });
}
