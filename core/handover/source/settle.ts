import { LinkError, ShrinkerError } from "../../errors.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import type { Journal } from "../journal.ts";
import { reach } from "../reach.ts";
import { confirm } from "./confirm.ts";
import { forget } from "./forget.ts";
import { type GiveContext, give } from "./give.ts";
import type { Talk } from "./mailbox.ts";
import type { PostcopyContext } from "./postcopy.ts";
import { reclaim } from "./reclaim.ts";
import { GuestLost, isPartial, recoverPostcopy } from "./recover-postcopy.ts";
import { standingStill } from "./standing-still.ts";

/**
 * Ends a migration whose guest was given away without a word from the destination that it runs. Resolves with where the guest
 * is now, and has ended the journal; rejects where that still can't be told, and has released it. `nowhere`: its copy has died
 * before it ran, and its QEMU here has ended.
 * @param machine the source's QEMU, where this process is its client; it is closed
 */
export async function settle(
  journal: Journal,
  talk: Talk,
  context: PostcopyContext,
  machine?: QemuSource,
): Promise<"source" | "destination" | "nowhere"> {
  let qmp = machine?.qmp;
  try {
    const state = await ask(journal, talk, context);
    // A post-copy whose source has sent everything is a hand-over like any other.
    if (journal.entry.postcopy) qmp ??= await reach(journal.entry);
    if (journal.entry.postcopy && (await isPartial(qmp))) {
      if (state === "lost") throw new GuestLost("its copy died at the destination, and QEMU does not take it back");
      await recoverPostcopy(journal, talk, context, qmp);
      return "destination";
    }
    if (state === "lost") {
      // Its copy is dead and never ran, so the guest is this one again, before anything else can go wrong.
      await journal.update({ phase: "begun" });
      const there = await reclaim(journal, qmp && new QemuSource(qmp));
      await forget(journal, talk);
      return there ? "source" : "nowhere";
    }
    qmp = await standingStill(journal.entry, qmp);
    await give(talk, context);
    await confirm(journal, talk, qmp && new QemuSource(qmp));
    return "destination";
  } catch (error) {
    await qmp?.close();
    await journal.release();
    throw error;
  }
}

async function ask(
  { entry }: Journal,
  talk: Talk,
  { signal, failed }: GiveContext,
): Promise<"loaded" | "taken" | "lost"> {
  const { settleMs } = talk.waits;
  const late = () => new LinkError(`it does not answer within ${settleMs / 1000} s`);
  const asking = { signal, failed, timeout: settleMs, late, skip: true };
  const { state } = await talk.ask({ type: "settle" }, ["settled"], asking);
  if (state !== "unknown" && state !== "prepared") return state;
  throw new ShrinkerError("refused", `it has no record of it: is this where "${entry.name}" went?`);
}
