import { asShrinkerError, heard } from "../../engine/told.ts";
import { ShrinkerError } from "../../errors.ts";
import { compatible } from "../../machines/qemu/compatible.ts";
import { describe } from "../../machines/qemu/description.ts";
import { QemuDestination } from "../../machines/qemu/destination.ts";
import { QmpClient, QmpError } from "../../machines/qemu/qmp.ts";
import { checkSocketPath, socketIdentity } from "../../machines/qemu/socket-path.ts";
import { migrationId, type WordOf } from "../../wire/handover.ts";
import { Journal } from "../journal.ts";
import { Arrival, type ArrivalContext, type Say } from "./arrival.ts";
import { GuestSockets } from "./guest-sockets.ts";
import { load } from "./load.ts";
import { endMachine, type WaitingMachine } from "./waiting-machine.ts";

/** PREPARE: gets ready for a guest. Rejects with why it can't come; nothing is left then. */
export async function prepare(
  word: WordOf<"prepare">,
  context: ArrivalContext,
  signal: AbortSignal,
  say: Say,
): Promise<Arrival> {
  let waiting = await context.machine(word, signal);
  const { qmp, pid } = waiting;
  const sockets = new GuestSockets(context.sockets);
  let journal: Journal | undefined;
  try {
    await check(word, qmp);
    const socket = await socketIdentity(qmp.path);
    if (socket === undefined) throw new ShrinkerError("input", `The socket "${qmp.path}" is gone`);
    await sockets.make();
    journal = await Journal.create(context.state, {
      id: migrationId(word.migration),
      ...{ role: "destination", phase: "prepared", name: word.name, qmp: qmp.path, socket, runs: !word.paused },
      ...(pid !== undefined && { pid }),
    });
    await adapt(word, qmp);
    if (word.postcopy) waiting = await entrust(waiting, journal, context, signal);
    const postcopy = word.postcopy ?? false;
    const arrival = new Arrival(context, { journal, state: "prepared", waiting, sockets, postcopy });
    arrival.meet(say);
    await arrival.qemu.machine!.incoming(sockets.address!);
    void load(arrival);
    return arrival;
  } catch (error) {
    // One that was not started for this guest may be anybody's, unless it listens for it already.
    if (waiting.kill) await endMachine(waiting);
    else await waiting.qmp.close();
    await journal?.remove().catch(() => journal?.release());
    await sockets.remove();
    throw error;
  }
}

/** Whether the QEMU here is one in which the guest can go on. */
async function check({ name, machine }: WordOf<"prepare">, qmp: QmpClient): Promise<void> {
  const here = await describe(qmp);
  const facts = { ...here, ...machine, cpuModel: machine.cpuModel };
  const against = compatible(facts, here);
  if (against.length > 0) throw heard("refused", `"${name}" can't go on here: ${against.join("; ")}`);
}

/** Makes QEMU's settings those of the source. */
async function adapt({ machine, postcopy }: WordOf<"prepare">, qmp: QmpClient): Promise<void> {
  const { major, minor } = machine.qemu;
  const preempt = major > 7 || (major === 7 && minor >= 1);
  try {
    await new QemuDestination(qmp).prepare({ postcopy, preempt });
  } catch (error) {
    throw postcopy && error instanceof QmpError ? withoutPostcopy(error) : error;
  }
}

function withoutPostcopy(error: unknown): ShrinkerError {
  const { message } = asShrinkerError(error);
  const remedy =
    "post-copy needs userfaultfd: run QEMU as root, or set vm.unprivileged_userfaultfd=1 at the destination";
  return new ShrinkerError("refused", `${message}; ${remedy}`, { cause: error });
}

/** From now on the connection to QEMU outlives this process. */
async function entrust(
  waiting: WaitingMachine,
  journal: Journal,
  { keep }: ArrivalContext,
  signal: AbortSignal,
): Promise<WaitingMachine> {
  if (!keep) return waiting;
  const keeper = journal.keeperPath;
  try {
    checkSocketPath(keeper);
  } catch (cause) {
    const message = `Post-copy needs a socket beside the journal, and "${keeper}" is too long for one: give the receiver a shorter --state`;
    throw new ShrinkerError("refused", message, { cause });
  }
  await journal.update({ keeper });
  // QEMU serves one at a time.
  await waiting.qmp.close();
  await keep(waiting.qmp.path, journal);
  return { ...waiting, qmp: await QmpClient.connect(keeper, { signal }) };
}
