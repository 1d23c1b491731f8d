import { asShrinkerError } from "../../engine/told.ts";
import { ShrinkerError } from "../../errors.ts";
import type { QmpClient } from "../../machines/qemu/qmp.ts";
import { quitQemu, runState } from "../../machines/qemu/run-state.ts";
import { Journal } from "../journal.ts";
import type { JournalEntry } from "../journal-entry.ts";
import { reach } from "../reach.ts";
import { Arrival, type ArrivalContext } from "./arrival.ts";
import { GuestSockets } from "./guest-sockets.ts";
import { lacksMemory } from "./lacks-memory.ts";
import { watchLoaded } from "./load.ts";
import { take } from "./take.ts";

/** What another process has left of an arrival. */
export interface TakenUp {
  /** Undefined where nothing was left that counts. */
  readonly arrival: Arrival | undefined;
  /** For people. */
  readonly note: string;
}

/**
 * Takes up what another process has left of a guest: one that is loaded or was taken goes on to arrive, what waited for one is
 * ended. Undefined where it has ended, or another process works on it; rejects where it can't be told what has become of the
 * guest, as with a QEMU that serves somebody else.
 */
export async function takeUp(context: ArrivalContext, { id, name }: JournalEntry): Promise<TakenUp | undefined> {
  const journal = await openJournal(context.state, id);
  if (!journal) return undefined;
  const { phase, started, runs } = journal.entry;
  // One that waits for its memory may not answer before it has got it: that must not keep others from arriving.
  const waits = phase === "taken" && journal.entry.postcopy === true;
  const needless = phase === "lost" || (phase === "taken" && started) || waits;
  let qmp: QmpClient | undefined;
  let arrival: Arrival;
  try {
    qmp = needless ? undefined : await reach(journal.entry, context.signal);
    // What it needed to go on had come, and only that process was not told yet.
    const switched = phase === "prepared" && qmp !== undefined && (await lacksMemory(qmp)) === true;
    if (switched) await journal.update({ phase: "loaded", postcopy: true });
    else if (phase === "prepared") {
      await (qmp && endWaiting(qmp));
      await journal.remove();
      return { arrival: undefined, note: `"${name}" had not arrived yet: ended what waited for it` };
    }
    arrival = await resume(context, journal, qmp);
  } catch (error) {
    await qmp?.close();
    await journal.release();
    throw error;
  }
  const found = (note: string) => ({ arrival, note });
  if (arrival.state === "running") return found(`"${name}" has arrived here, which its source may not know yet`);
  if (arrival.state === "lost")
    return found(`"${name}" was loaded here, but its QEMU has died: its source may take it back`);
  if (arrival.state === "loaded") return found(`"${name}" is loaded here, and waits for the source's word`);
  if (waits)
    return found(
      `"${name}" was taken here, and may lack part of its memory: go on with migrate --recover at its source`,
    );
  if (!qmp) return found(`"${name}" was taken here, but its QEMU has ended since: see \`shrinker resolve\``);
  try {
    await take(arrival);
    return found(`"${name}" was taken, and ${runs ? "runs" : "stays paused"} here`);
  } catch (error) {
    // It stays taken: the source's next word has this tried again.
    return found(`"${name}" was taken here, but does not run: ${asShrinkerError(error).message}`);
  }
}

async function openJournal(state: string, id: string): Promise<Journal | undefined> {
  try {
    return await Journal.resume(state, { role: "destination", id });
  } catch (error) {
    if (error instanceof ShrinkerError && error.code === "refused") return undefined;
    throw error;
  }
}

/** @param qmp undefined where its QEMU has died, or nothing has to be asked of it */
async function resume(context: ArrivalContext, journal: Journal, qmp: QmpClient | undefined): Promise<Arrival> {
  const { phase, started } = journal.entry;
  if (phase === "loaded" && !qmp) await journal.update({ phase: "lost" });
  const state = phase === "taken" ? (started ? "running" : "taken") : phase === "loaded" && qmp ? "loaded" : "lost";
  const sockets = new GuestSockets(context.sockets);
  const arrival = new Arrival(context, { journal, state, waiting: qmp && { qmp }, sockets, postcopy: false });
  if (state === "loaded") void watchLoaded(arrival);
  return arrival;
}

/** Ends a QEMU that waited for a guest which never came. Whoever has let it run meanwhile has another use for it. */
async function endWaiting(qmp: QmpClient): Promise<void> {
  try {
    if (!(await runState(qmp)).running) await quitQemu(qmp);
  } catch {
    // It ends by itself, or its owner sees to it.
  } finally {
    await qmp.close();
  }
}
