import { ShrinkerError } from "../errors.ts";
import { QemuDestination } from "../machines/qemu/destination.ts";
import { quitQemu, runState } from "../machines/qemu/run-state.ts";
import { Journal, type JournalEntry } from "./journal.ts";
import { reach, reclaim } from "./settle.ts";

/** What was done with a guest's QEMU on this host. */
export type Resolved = "runs" | "paused" | "ended" | "gone";

/**
 * Ends an interrupted migration by hand, on one host: the user says at which end the guest goes on, and that the other end is
 * told the same, or dead. Rejects with `refused` where a process works on it, or where that end can't have the guest.
 */
export async function resolve(state: string, entry: JournalEntry, as: "source" | "destination"): Promise<Resolved> {
  const journal = await Journal.resume(state, entry);
  if (!journal) throw new ShrinkerError("input", `The migration of "${entry.name}" has ended meanwhile`);
  try {
    const done = entry.role === "source" ? await atSource(journal, as) : await atDestination(journal, as);
    await journal.remove();
    return done;
  } catch (error) {
    await journal.release();
    throw error;
  }
}

/** The guest goes on here, or its QEMU is ended, as the destination has it. */
async function atSource(journal: Journal, as: "source" | "destination"): Promise<Resolved> {
  const machine = await reach(journal.entry.qmp);
  if (as === "source") {
    if (!machine) throw gone(journal, "so it can't go on here");
    await reclaim(journal, machine);
    return journal.entry.ran ? "runs" : "paused";
  }
  if (!machine) return "gone";
  if ((await runState(machine.qmp)).running) {
    await machine.qmp.close();
    const message = `"${journal.entry.name}" runs here: stop it first, if it really goes on at the destination`;
    throw new ShrinkerError("refused", message);
  }
  if (journal.entry.keepSource) await machine.qmp.close();
  else await machine.quit();
  return journal.entry.keepSource ? "paused" : "ended";
}

async function atDestination(journal: Journal, as: "source" | "destination"): Promise<Resolved> {
  const { qmp: path, phase, name, runs } = journal.entry;
  const machine = await reach(path);
  if (as === "source") {
    if (!machine) return "gone";
    await quitQemu(machine.qmp);
    return "ended";
  }
  if (phase === "prepared")
    throw new ShrinkerError("refused", `"${name}" was never loaded here, so it can't go on here`);
  if (!machine) throw gone(journal, "so it can't go on here");
  await journal.update({ phase: "taken" });
  if (runs) await new QemuDestination(machine.qmp).run();
  await machine.qmp.close();
  return runs ? "runs" : "paused";
}

function gone({ entry }: Journal, consequence: string): ShrinkerError {
  return new ShrinkerError("input", `Nothing answers at "${entry.qmp}", the QEMU of "${entry.name}", ${consequence}`);
}
