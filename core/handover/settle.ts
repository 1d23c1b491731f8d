import { LinkError, ShrinkerError } from "../errors.ts";
import { QmpClient } from "../machines/qemu/qmp.ts";
import { QemuSource } from "../machines/qemu/source.ts";
import { confirm, type GiveContext, give, unsettled } from "./give.ts";
import type { Journal } from "./journal.ts";
import type { Talk } from "./mailbox.ts";
import { dropCopy, goOn } from "./take-back.ts";

const SETTLE_MS = 30_000;

/**
 * Ends a migration whose guest was given away without a word from the destination that it runs. Resolves with where the guest
 * is now; rejects with `unsettled` where that still can't be told.
 * @param machine the source's QEMU, where this process is its client
 */
export async function settle(
  journal: Journal,
  talk: Talk,
  context: GiveContext,
  machine?: QemuSource,
): Promise<"source" | "destination"> {
  const { name, qmp } = journal.entry;
  try {
    await talk.say({ type: "settle" });
    const late = () => new LinkError(`it does not answer within ${SETTLE_MS / 1000} s`);
    const heard = talk.hear(["settled"], { signal: context.signal, timeout: SETTLE_MS, late });
    const { state } = await Promise.race([heard, context.failed]);
    if (state === "unknown" || state === "prepared")
      throw new ShrinkerError("refused", `it has no record of it: is this where "${name}" went?`);
    if (state !== "lost") {
      await give(journal, talk, context);
      await confirm(journal, talk, machine ?? (await reach(qmp)));
      return "destination";
    }
  } catch (error) {
    throw error instanceof ShrinkerError && error.code === "unsettled" ? error : unsettled(journal, error);
  }
  // Its copy is dead and never ran, so the guest is this one again, before anything else can go wrong.
  await journal.update({ phase: "begun" });
  await reclaim(journal, machine);
  await forget(journal, talk);
  return "source";
}

/** Has the guest of a migration that was begun and not given away go on here, after the process that moved it has died. */
export async function reclaim(journal: Journal, machine?: QemuSource): Promise<void> {
  const { qmp, ran } = journal.entry;
  const source = machine ?? (await reach(qmp));
  if (source) {
    source.guestRan = ran;
    await goOn(source, journal);
    await source.qmp.close();
  }
  await journal.update({ phase: "aborted" });
}

/** Has the destination drop what it may have of a migration that was given up here, and ends its journal. */
export async function forget(journal: Journal, talk: Talk): Promise<boolean> {
  const dropped = await dropCopy(talk, new ShrinkerError("cancelled", "an earlier attempt was given up"));
  if (dropped) await journal.remove();
  else await journal.release();
  return dropped;
}

/** Undefined where its QEMU has ended. */
export async function reach(path: string): Promise<QemuSource | undefined> {
  try {
    return new QemuSource(await QmpClient.connect(path, { signal: AbortSignal.timeout(SETTLE_MS) }));
  } catch (error) {
    if (error instanceof ShrinkerError && error.code === "input") return undefined;
    throw error;
  }
}
