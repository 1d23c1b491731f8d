import { LinkError } from "../../errors.ts";
import { NEVER } from "../../interruptible.ts";
import type { QemuSource } from "../../machines/qemu/source.ts";
import type { Journal } from "../journal.ts";
import { confirm } from "./confirm.ts";
import { give } from "./give.ts";
import { later } from "./limits.ts";
import type { Talk } from "./mailbox.ts";
import { type Departed, lostCopy, type MoveOutcome, unknown } from "./outcome.ts";
import { finishPostcopy, type PostcopyContext } from "./postcopy.ts";
import { settle } from "./settle.ts";
import type { GuestStream } from "./stream.ts";

/** A guest that was given away, as its journal says. */
export interface Given {
  /** Undefined where its QEMU has ended. */
  readonly source: QemuSource | undefined;
  readonly stream: GuestStream;
}

/**
 * Has the destination let the guest run that was given to it; where it can't say so, it may say what else is so. Closes the
 * guest's stream. Never rejects.
 * @param departed called when the guest runs there, and when all of it is there
 */
export async function finish(
  journal: Journal,
  talk: Talk,
  context: PostcopyContext,
  given: Given,
  departed: () => Departed,
): Promise<MoveOutcome> {
  // It can't be taken back any more, so a user who wants to end waits for the word as well; and with post-copy for all of the guest.
  const patience = later(context.signal, talk.waits.patienceMs);
  const signal = journal.entry.postcopy ? NEVER : patience.signal;
  try {
    return await handOver(journal, talk, { ...context, signal }, given, departed);
  } finally {
    await given.stream.close();
    patience.stop();
  }
}

async function handOver(
  journal: Journal,
  talk: Talk,
  context: PostcopyContext,
  { source, stream }: Given,
  departed: () => Departed,
): Promise<MoveOutcome> {
  const { name } = journal.entry;
  const there = () => ({ name, where: "destination", departed: departed(), error: undefined }) as const;
  try {
    await give(talk, context);
  } catch (error) {
    // What the guest has at the destination is not whole, so there is no other answer than to go on.
    if (journal.entry.postcopy) return leave(journal, source, error);
    try {
      const where = await settle(journal, talk, context, source);
      if (where === "destination") return there();
      return lostCopy(journal.entry, where === "source", error);
    } catch {
      const outcome = unknown(journal.entry, error);
      return journal.entry.phase === "given" ? outcome : { ...outcome, where: "source" };
    }
  }
  let outcome = there();
  if (journal.entry.postcopy) {
    try {
      if (!source) throw new LinkError("the source's QEMU has ended");
      await finishPostcopy(source, stream, context);
      outcome = there();
    } catch (error) {
      return leave(journal, source, error);
    }
  }
  await confirm(journal, talk, source);
  return outcome;
}

/** Leaves a post-copy to whoever takes it up. */
export async function leave(journal: Journal, source: QemuSource | undefined, error: unknown): Promise<MoveOutcome> {
  await source?.qmp.close();
  await journal.release();
  return unknown(journal.entry, error);
}
