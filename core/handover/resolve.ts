import { ShrinkerError } from "../errors.ts";
import { QemuDestination } from "../machines/qemu/destination.ts";
import type { QmpClient } from "../machines/qemu/qmp.ts";
import { quitQemu, runState } from "../machines/qemu/run-state.ts";
import { QemuSource } from "../machines/qemu/source.ts";
import { migrationStatus } from "../machines/qemu/status.ts";
import { Journal } from "./journal.ts";
import type { JournalEntry } from "./journal-entry.ts";
import { reach } from "./reach.ts";
import { reclaim } from "./source/reclaim.ts";

/** What was done with a guest's QEMU on this host. */
export type Resolved = "runs" | "paused" | "ended" | "gone";

/**
 * Ends an interrupted migration by hand, on one host: the user says at which end the guest goes on, and that the other end is
 * told the same, or dead. Rejects with `refused` where a process works on it, where that end can't have the guest, or where it
 * runs at the end that shall not have it.
 */
export async function resolve(state: string, entry: JournalEntry, as: "source" | "destination"): Promise<Resolved> {
  const journal = await Journal.resume(state, entry);
  if (!journal) throw new ShrinkerError("input", `The migration of "${entry.name}" has ended meanwhile`);
  let qmp: QmpClient | undefined;
  try {
    qmp = await reach(journal.entry);
    if (qmp && journal.entry.postcopy) await checkWhole(journal.entry, qmp);
    const done = as !== entry.role ? await letGo(journal, qmp) : await keep(journal, qmp);
    await journal.remove();
    return done;
  } catch (error) {
    await journal.release();
    throw error;
  } finally {
    await qmp?.close();
  }
}

/** While post-copy is under way neither end has all of a guest. */
async function checkWhole({ name }: JournalEntry, qmp: QmpClient): Promise<void> {
  if (!(await migrationStatus(qmp)).status.startsWith("postcopy")) return;
  const message =
    `Part of "${name}" is at the source and part at the destination: go on with \`shrinker migrate --recover\` at the source. ` +
    "If that can't be, the guest is lost: end its QEMU, then say it again";
  throw new ShrinkerError("refused", message);
}

/** The guest goes on here. */
async function keep(journal: Journal, qmp: QmpClient | undefined): Promise<Resolved> {
  const { name, phase, role, ran, runs, started, qmp: path } = journal.entry;
  // Only the source doesn't know it: what has become of the guest since is its owner's business.
  if (phase === "taken" && started) return qmp ? ((await runState(qmp)).running ? "runs" : "paused") : "gone";
  if (phase === "prepared")
    throw new ShrinkerError("refused", `"${name}" was never loaded here, so it can't go on here`);
  if (!qmp || phase === "lost")
    throw new ShrinkerError("input", `The QEMU of "${name}" at "${path}" has ended, so it can't go on here`);
  if (role === "source") {
    await reclaim(journal, new QemuSource(qmp));
    return ran ? "runs" : "paused";
  }
  await journal.update({ phase: "taken" });
  if (runs) await new QemuDestination(qmp).run();
  return runs ? "runs" : "paused";
}

/** It goes on at the other end. */
async function letGo({ entry }: Journal, qmp: QmpClient | undefined): Promise<Resolved> {
  if (!qmp) return "gone";
  if ((await runState(qmp)).running) {
    const message = `"${entry.name}" runs here: stop it first, if it really goes on at the other end`;
    throw new ShrinkerError("refused", message);
  }
  if (entry.keepSource) return "paused";
  await quitQemu(qmp);
  return "ended";
}
