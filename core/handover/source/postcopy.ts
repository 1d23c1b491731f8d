import { LinkError, ShrinkerError } from "../../errors.ts";
import type { QmpClient } from "../../machines/qemu/qmp.ts";
import { QmpError } from "../../machines/qemu/qmp.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import { type MigrationStatus, migrationStatus } from "../../machines/qemu/status.ts";
import type { Journal, JournalEntry } from "../journal.ts";
import { standingStill } from "../reach.ts";
import type { Departing } from "./begin.ts";
import { confirm, type GiveContext, give } from "./give.ts";
import type { Talk } from "./mailbox.ts";
import { type GuestStream, openStream, type StreamContext } from "./stream.ts";

const NEVER = new AbortController().signal;
/** For QEMU to notice that its stream has gone, and for both to go on over another one. */
const PAUSE_MS = 10_000;
const RECOVER_MS = 30_000;
/** For QEMU to come to an end with a stream that has broken. */
const BROKEN_MS = 1000;

export interface PostcopyContext extends GiveContext, StreamContext {
  readonly onStatus?: ((status: MigrationStatus) => void) | undefined;
  /** From now on the guest can't be taken back, and its copying is not ended by the user's signal. */
  readonly onPostcopy?: (() => void) | undefined;
}

/** A post-copy that nobody can go on with: what one end lacks has died with the other. */
export class GuestLost extends ShrinkerError {
  constructor(why: string) {
    super("input", why);
    this.name = "GuestLost";
  }
}

/**
 * Has the guest go on at the destination before all of its memory is there (post-copy: Hines, Deshpande and Gopalan, 2009). Rejects
 * where QEMU refuses; then the guest stands still.
 */
export async function beginPostcopy({ machine, journal }: Departing): Promise<void> {
  await journal.update({ postcopy: true });
  // A QEMU whose stream breaks when all is sent, but not answered, takes that for a failure and has the guest go on by itself. One
  // that stood still before stays so.
  await machine.stopGuest();
  try {
    await machine.startPostcopy();
  } catch (error) {
    // QEMU has refused, so nothing has begun.
    if (error instanceof QmpError) await journal.update({ postcopy: false });
    throw error;
  }
}

/**
 * Ends a migration that was to switch to post-copy, if it hasn't: whether it has. To be asked only of a guest that the destination
 * was not told to let run: one that has not switched is here.
 */
export async function hasSwitched(qmp: QmpClient): Promise<boolean> {
  try {
    await new QemuSource(qmp, { guestRan: false }).cancel();
    return false;
  } catch {
    // It has, or has completed: then all of the guest is at both ends.
  }
  try {
    return (await migrationStatus(qmp)).status !== "completed";
  } catch {
    return true;
  }
}

/** Waits until all of the guest's memory is there. Rejects with what keeps it from that. */
export async function finishPostcopy(
  source: QemuSource,
  stream: GuestStream,
  { failed, onStatus }: PostcopyContext,
  // Not the user's: the guest waits for its memory.
  signal = NEVER,
): Promise<void> {
  const completed = source
    .waitFor(["completed", "postcopy-paused"], { signal, ...(onStatus && { onStatus }) })
    .then(async ({ status }) => {
      if (status === "completed") return;
      await Promise.race([stream.broken, pass(BROKEN_MS)]);
      throw new LinkError("its stream has broken");
    });
  await Promise.race([completed, failed, brokenBeforeEnd(stream, completed)]);
}

/** A stream that has done its part may break, too. */
async function brokenBeforeEnd(stream: GuestStream, completed: Promise<unknown>): Promise<never> {
  try {
    return await stream.broken;
  } catch (error) {
    await Promise.race([completed.catch(() => {}), pass(BROKEN_MS)]);
    throw error;
  }
}

const pass = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref());

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
      await pause(source);
      stream = await openStream(journal.migration, context);
      await source.recover(stream.address);
      const on = source.waitFor(["postcopy-active", "completed"], { signal: NEVER, timeout: RECOVER_MS });
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
async function pause(source: QemuSource): Promise<void> {
  const { status } = await source.status();
  if (!status.startsWith("postcopy"))
    throw new GuestLost(`the source's QEMU can't send what the destination lacks: its migration is ${status}`);
  const refused = (error: unknown) => {
    if (!(error instanceof QmpError)) throw error;
  };
  if (status !== "postcopy-paused") await source.pausePostcopy().catch(refused);
  await source.waitFor(["postcopy-paused"], { signal: NEVER, timeout: PAUSE_MS });
}

/** Has the destination wait for what it lacks. Resolves with whether it has everything. */
async function askToRecover(talk: Talk, { signal, failed }: GiveContext): Promise<boolean> {
  const said = talk.say({ type: "recover" }).then(() => new Promise<never>(() => {}));
  const late = () => new LinkError(`the destination is not ready to go on within ${RECOVER_MS / 1000} s`);
  const heard = talk.hear(["prepared", "whole"], { signal, timeout: RECOVER_MS, late });
  try {
    return (await Promise.race([heard, said, failed])).type === "whole";
  } catch (error) {
    // That is what it says of a QEMU that has ended.
    if (error instanceof ShrinkerError && error.code === "input") throw new GuestLost(error.message);
    throw error;
  }
}

/** The guest has gone on at the destination, and not all of its memory is there. */
export function interrupted({ name, to }: JournalEntry, cause: unknown): ShrinkerError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message =
    cause instanceof GuestLost
      ? `"${name}" is lost, which had begun to go on at ${to} by post-copy: ${why}. End what is left of it, then see \`shrinker resolve ${name}\``
      : `"${name}" was handed over to ${to} by post-copy, and not all of its memory is there: ${why}. ` +
        "It waits there for the rest. Run the same command again, with --recover";
  return new ShrinkerError("unsettled", message, { cause });
}
