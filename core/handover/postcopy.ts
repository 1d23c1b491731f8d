import { LinkError, ShrinkerError } from "../errors.ts";
import { QmpError } from "../machines/qemu/qmp.ts";
import { QemuSource } from "../machines/qemu/source.ts";
import type { MigrationStatus } from "../machines/qemu/status.ts";
import type { Departing } from "./begin.ts";
import { confirm, type GiveContext, give } from "./give.ts";
import type { Journal, JournalEntry } from "./journal.ts";
import type { Talk } from "./mailbox.ts";
import { reach } from "./reach.ts";
import { type GuestStream, openStream, type StreamContext } from "./stream.ts";

const NEVER = new AbortController().signal;
/** For a QEMU to notice that its stream has gone, and for both to go on over another one. */
const PAUSE_MS = 10_000;
const RECOVER_MS = 30_000;

export interface PostcopyContext extends GiveContext, StreamContext {
  readonly onStatus?: ((status: MigrationStatus) => void) | undefined;
}

/**
 * Has the guest go on at the destination before all of its memory is there (post-copy: Hines, Deshpande and Gopalan, 2009). From
 * the journal's word on it is the destination's: what it writes there exists nowhere else.
 */
export async function beginPostcopy({ machine, journal }: Departing): Promise<void> {
  await journal.update({ phase: "given", postcopy: true });
  try {
    await machine.startPostcopy();
  } catch (error) {
    // QEMU has refused, so nothing has begun.
    if (error instanceof QmpError) await journal.update({ phase: "begun", postcopy: false });
    throw error;
  }
}

/** Waits until all of the guest's memory is there. Rejects with what keeps it from that. */
export async function finishPostcopy(source: QemuSource, stream: GuestStream | undefined, context: PostcopyContext) {
  const { failed, onStatus } = context;
  // Not the user's signal: the guest waits for its memory.
  const completed = source.waitFor(["completed"], { signal: NEVER, ...(onStatus && { onStatus }) });
  await Promise.race([completed, failed, ...(stream ? [brokenBeforeEnd(stream, completed)] : [])]);
}

/** A stream that has done its part may break, too. */
async function brokenBeforeEnd(stream: GuestStream, completed: Promise<unknown>): Promise<never> {
  try {
    return await stream.broken;
  } catch (error) {
    const patience = new Promise((resolve) => setTimeout(resolve, 1000).unref());
    await Promise.race([completed, patience]);
    throw error;
  }
}

/**
 * Goes on with a post-copy that was interrupted, over a stream of its own, until all of the guest's memory is there and the journal has
 * ended. Rejects where that can't be; the guest waits at the destination for what is missing.
 * @param machine the source's QEMU, where this process is its client; it is closed
 */
export async function recoverPostcopy(
  journal: Journal,
  talk: Talk,
  context: PostcopyContext,
  machine?: QemuSource,
): Promise<void> {
  const qmp = machine?.qmp ?? (await reach(journal.entry));
  if (!qmp) throw new ShrinkerError("input", "the source's QEMU has ended, and with it what the destination lacks");
  const source = new QemuSource(qmp);
  let stream: GuestStream | undefined;
  try {
    if ((await source.status()).status !== "completed") {
      await pause(source);
      stream = await openStream(journal.migration, context);
      await askToRecover(talk, context);
      await source.recover(stream.address);
      const on = source.waitFor(["postcopy-active", "completed"], { signal: NEVER, timeout: RECOVER_MS });
      await Promise.race([on, context.failed, stream.broken]);
    }
    await give(talk, context);
    await finishPostcopy(source, stream, context);
    await confirm(journal, talk, source);
  } finally {
    await stream?.close();
    await qmp.close();
  }
}

/** Takes QEMU from the stream that has broken. */
async function pause(source: QemuSource): Promise<void> {
  const { status } = await source.status();
  if (status === "postcopy-active") await source.pausePostcopy();
  await source.waitFor(["postcopy-paused"], { signal: NEVER, timeout: PAUSE_MS });
}

async function askToRecover(talk: Talk, { signal, failed }: GiveContext): Promise<void> {
  const said = talk.say({ type: "recover" }).then(() => new Promise<never>(() => {}));
  const late = () => new LinkError(`the destination is not ready to go on within ${RECOVER_MS / 1000} s`);
  const heard = talk.hear(["prepared"], { signal, timeout: RECOVER_MS, late });
  await Promise.race([heard, said, failed]);
}

/** The guest has gone on at the destination, and not all of its memory is there. */
export function interrupted({ name, to }: JournalEntry, cause: unknown): ShrinkerError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message =
    `"${name}" was handed over to ${to} by post-copy, and not all of its memory is there: ${why}. ` +
    "It waits there for the rest. Run the same command again, with --recover";
  return new ShrinkerError("unsettled", message, { cause });
}
