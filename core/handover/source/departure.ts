import { asShrinkerError } from "../../engine/told.ts";
import { abortReason } from "../../errors.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import { machineService } from "../../wire/handover.ts";
import type { Departing } from "./begin.ts";
import type { DepartureContext } from "./departure-context.ts";
import { finish, type Given, leave } from "./finish.ts";
import type { Talk } from "./mailbox.ts";
import type { Departed, MoveOutcome } from "./outcome.ts";
import { perform } from "./perform.ts";
import { hasSwitched } from "./postcopy.ts";
import { prepare } from "./prepare.ts";
import { standingStill } from "./standing-still.ts";
import { type GuestStream, openStream } from "./stream.ts";
import { takeBack } from "./take-back.ts";

/**
 * Hands a guest over. Until it is given away, every failure leaves it running here. After that its journal stays where the
 * destination's word is missing, for `settle`. Never rejects.
 */
export async function depart(departing: Departing, context: DepartureContext): Promise<MoveOutcome> {
  const { journal, machine } = departing;
  const talk = context.mailbox.open(journal.migration, context.tell);
  const clock = startClock(machine);
  const hurry = hurryWhileStopped(departing, context);
  try {
    const given = await copyAndGive(departing, context, talk).finally(clock.stop);
    if ("where" in given) return given;
    let confirming = false;
    return await finish(journal, talk, context, given, () => {
      // With post-copy it runs long before all of it is there.
      hurry.stop();
      if (!confirming) context.onPhase("confirm");
      confirming = true;
      return clock.departed();
    });
  } finally {
    hurry.stop();
    context.mailbox.close(talk);
  }
}

/** Copies the guest to the destination, and gives it away; resolves with where it is else. Never rejects. */
async function copyAndGive(departing: Departing, context: DepartureContext, talk: Talk): Promise<Given | MoveOutcome> {
  const { machine, journal } = departing;
  let qmp: QemuSource["qmp"] | undefined = machine.qmp;
  let stream: GuestStream | undefined;
  try {
    context.onPhase("prepare");
    await prepare(departing, context, talk);
    context.onPhase("perform");
    stream = await openStream(journal.migration, context);
    const whole = await perform(departing, context, talk, stream);
    context.onPhase("finish");
    if (!journal.entry.postcopy && context.signal.aborted) throw abortReason(context.signal);
    talk.check();
    if (whole) await stream.close();
    qmp = await standingStill(journal.entry, qmp);
    await journal.update({ phase: "given", postcopy: !whole });
    return { source: qmp && new QemuSource(qmp), stream };
  } catch (thrown) {
    // QEMU answers nobody while it writes to a stream that stalls, so that goes first.
    await stream?.close();
    if (journal.entry.postcopy && (await hasSwitched(qmp ?? machine.qmp))) {
      // What the destination has may be all that can go on.
      await journal.update({ phase: "given" }).catch(() => {});
      return leave(journal, new QemuSource(qmp ?? machine.qmp), thrown);
    }
    const back = qmp ? { journal, machine: new QemuSource(qmp) } : departing;
    return takeBack(back, talk, asShrinkerError(thrown));
  }
}

/** Has the guest's stream go before those of others from when it stands still, until it runs again, here or there. */
function hurryWhileStopped({ machine: { qmp }, journal }: Departing, { sender }: DepartureContext) {
  let calm: (() => void) | undefined;
  const unlisten = qmp.onEvent(({ event }) => {
    if (event === "STOP") calm ??= sender.hurry(machineService(journal.migration));
    if (event === "RESUME") end();
  });
  function end(): void {
    calm?.();
    calm = undefined;
  }
  return {
    stop(): void {
      unlisten();
      end();
    },
  };
}

/** Measures a departure from now on; the guest's stop as long as it isn't stopped itself. */
function startClock({ qmp }: QemuSource) {
  const begun = performance.now();
  let stopped: number | undefined;
  let ran: number | undefined;
  const unlisten = qmp.onEvent(({ event }) => {
    if (event === "STOP") stopped = performance.now();
  });
  return {
    stop: unlisten,
    /** As of now; the guest is taken to run there since this was called first. */
    departed(): Departed {
      const now = performance.now();
      ran ??= now;
      return { totalMs: now - begun, downtimeMs: stopped === undefined ? undefined : ran - stopped };
    },
  };
}
