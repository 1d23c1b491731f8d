import { LinkError, ShrinkerError } from "../../errors.ts";
import { NEVER } from "../../interruptible.ts";
import { type QmpClient, QmpError } from "../../machines/qemu/qmp.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import { migrationStatus } from "../../machines/qemu/status.ts";
import type { Journal } from "../journal.ts";
import { confirm } from "./confirm.ts";
import { type GiveContext, give } from "./give.ts";
import type { Talk } from "./mailbox.ts";
import { finishPostcopy, type PostcopyContext } from "./postcopy.ts";
import { standingStill } from "./standing-still.ts";
import { type GuestStream, openStream } from "./stream.ts";

/** A post-copy that nobody can go on with: what one end lacks has died with the other. */
export class GuestLost extends ShrinkerError {
  constructor(why: string) {
    super("input", why);
    this.name = "GuestLost";
  }
}

/** Whether the source's QEMU has not sent all of a guest that it has begun to. */
export async function isPartial(qmp: QmpClient | undefined): Promise<boolean> {
  return qmp === undefined || (await migrationStatus(qmp)).status !== "completed";
}

/**
 * Goes on with a post-copy that was interrupted, over a stream of its own, until all of the guest's memory is there and the journal has
 * ended. Rejects where that can't be, for good with `GuestLost`; else the guest waits at the destination for what is missing.
 * @param qmp the source's QEMU, unless it has ended; it is closed
 */
export async function recoverPostcopy(
  journal: Journal,
  talk: Talk,
  context: PostcopyContext,
  qmp: QmpClient | undefined,
): Promise<void> {
  let stream: GuestStream | undefined;
  const still = await standingStill(journal.entry, qmp);
  try {
    const source = still && new QemuSource(still);
    // What the source's QEMU takes for a failure may have arrived whole.
    const whole = await askToRecover(talk, context);
    if (!whole) {
      if (!source) throw new GuestLost("the source's QEMU has ended, and with it what the destination lacks");
      await pause(source, talk.waits.pauseMs);
      stream = await openStream(journal.migration, context);
      await source.recover(stream.address);
      const on = source.waitFor(["postcopy-active", "completed"], { signal: NEVER, timeout: talk.waits.recoverMs });
      await Promise.race([on, context.failed, stream.broken]);
      context.onPostcopy?.();
    }
    await give(talk, { ...context, signal: NEVER });
    if (source && stream) await finishPostcopy(source, stream, context);
    await confirm(journal, talk, source);
  } finally {
    await stream?.close();
    await still?.close();
  }
}

/** Takes QEMU from the stream that has broken, which it may not have noticed. */
async function pause(source: QemuSource, timeout: number): Promise<void> {
  const { status } = await source.status();
  if (!status.startsWith("postcopy"))
    throw new GuestLost(`the source's QEMU can't send what the destination lacks: its migration is ${status}`);
  const refused = (error: unknown) => {
    if (!(error instanceof QmpError)) throw error;
  };
  if (status !== "postcopy-paused") await source.pausePostcopy().catch(refused);
  await source.waitFor(["postcopy-paused"], { signal: NEVER, timeout });
}

/** Has the destination wait for what it lacks. Resolves with whether it has everything. */
async function askToRecover(talk: Talk, { signal, failed }: GiveContext): Promise<boolean> {
  const timeout = talk.waits.recoverMs;
  const late = () => new LinkError(`the destination is not ready to go on within ${timeout / 1000} s`);
  const asking = { signal, failed, timeout, late };
  try {
    return (await talk.ask({ type: "recover" }, ["prepared", "whole"], asking)).type === "whole";
  } catch (error) {
    // That is what it says of a QEMU that has ended.
    if (error instanceof ShrinkerError && error.code === "input") throw new GuestLost(error.message);
    throw error;
  }
}
