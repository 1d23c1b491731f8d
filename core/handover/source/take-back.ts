import { ShrinkerError } from "../../errors.ts";
import type { Departing } from "./begin.ts";
import { dropCopy } from "./forget.ts";
import type { Talk } from "./mailbox.ts";
import { type MoveOutcome, nowhere } from "./outcome.ts";
import { goOn } from "./reclaim.ts";

/**
 * Has a guest that was not given away go on at the source, and tells the destination to drop what it has. Where that doesn't
 * answer the journal stays, so that it is told the next time. Never rejects.
 */
export async function takeBack(
  { machine, journal }: Pick<Departing, "machine" | "journal">,
  talk: Talk,
  error: ShrinkerError,
): Promise<MoveOutcome> {
  const { name } = journal.entry;
  const forgotten = dropCopy(talk, error);
  let stuck: unknown;
  const there = await goOn(machine, journal.entry).catch((why) => {
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
  if (there === false) return nowhere(name, error);
  return { name, where: "source", departed: undefined, error: stuck ? standsStill(name, error, stuck) : error };
}

function standsStill(name: string, error: ShrinkerError, stuck: unknown): ShrinkerError {
  const why = stuck instanceof Error ? stuck.message : String(stuck);
  const message = `${error.message}. "${name}" stands still at the source: ${why}; let it run with its monitor's "cont"`;
  return new ShrinkerError(error.code, message, { cause: stuck });
}
