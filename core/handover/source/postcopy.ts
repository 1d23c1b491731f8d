import { LinkError } from "../../errors.ts";
import { NEVER } from "../../interruptible.ts";
import { type QmpClient, QmpError } from "../../machines/qemu/qmp.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import { type MigrationStatus, migrationStatus } from "../../machines/qemu/status.ts";
import type { Departing } from "./begin.ts";
import type { GiveContext } from "./give.ts";
import type { GuestStream, StreamContext } from "./stream.ts";

/** For QEMU to come to an end with a stream that has broken. */
const BROKEN_MS = 1000;

export interface PostcopyContext extends GiveContext, StreamContext {
  readonly onStatus?: ((status: MigrationStatus) => void) | undefined;
  /** From now on the guest can't be taken back, and its copying is not ended by the user's signal. */
  readonly onPostcopy?: (() => void) | undefined;
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
