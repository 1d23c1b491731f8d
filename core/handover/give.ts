import { LinkError, ShrinkerError } from "../errors.ts";
import type { QemuSource } from "../machines/qemu/source.ts";
import type { Journal } from "./journal.ts";
import type { Talk } from "./mailbox.ts";

export interface GiveContext {
  readonly failed: Promise<never>;
  readonly signal: AbortSignal;
}

/** What the destination gets to let the guest run. */
const RUN_MS = 30_000;

/**
 * Gives a guest away that is loaded at the destination and stands still here: from the journal's word on it is not the source's
 * any more, whatever happens. Rejects with `unsettled` where the destination doesn't say that it runs.
 */
export async function give(journal: Journal, talk: Talk, { failed, signal }: GiveContext): Promise<void> {
  await journal.update({ phase: "given" });
  try {
    await talk.say({ type: "go" });
    const late = () => new LinkError(`it does not say so within ${RUN_MS / 1000} s`);
    await Promise.race([talk.hear(["running"], { signal, timeout: RUN_MS, late }), failed]);
  } catch (error) {
    throw unsettled(journal, error);
  }
}

/** The guest runs at the destination: ends the source's QEMU, unless that is to stay, and the journals of both ends. */
export async function confirm(journal: Journal, talk: Talk, machine: QemuSource | undefined): Promise<void> {
  const { keepSource, settings } = journal.entry;
  try {
    // It may have died, or be gone already: what counts runs elsewhere.
    if (keepSource) await (machine && settings && machine.restore(settings));
    else await machine?.quit();
  } catch {}
  await machine?.qmp.close();
  await journal.remove();
  await talk.say({ type: "confirm" }).catch(() => {});
}

/** Nobody knows here whether the guest runs at the destination. */
export function unsettled({ entry }: Journal, cause: unknown): ShrinkerError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message =
    `"${entry.name}" was handed over, but the destination has not said that it runs there: ${why}. ` +
    `It stands still here. Run the same command again, or see \`shrinker resolve ${entry.name}\``;
  return new ShrinkerError("unsettled", message, { cause });
}
