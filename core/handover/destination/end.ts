import { ShrinkerError } from "../../errors.ts";
import type { Arrival, Say } from "./arrival.ts";

/** CANCEL: the source keeps the guest: ends the QEMU that has a copy of it, or waits for one. Never of one that was taken. */
export function drop(arrival: Arrival, error: ShrinkerError): Promise<void> {
  return arrival.inTurn(() => dropNow(arrival, error));
}

/** As `drop`, for what is in turn. */
export async function dropNow(arrival: Arrival, error: ShrinkerError): Promise<void> {
  const { state } = arrival;
  if (state === "taken" || state === "running" || state === "ended") return;
  arrival.error = error;
  await arrival.qemu.end();
  await end(arrival);
}

/** CONFIRM: the source knows that the guest runs here, or needs to know no more. */
export function confirmed(arrival: Arrival): Promise<void> {
  return arrival.inTurn(async () => {
    if (arrival.state === "running") await end(arrival);
  });
}

/** A session has ended. What is not loaded yet never will be; what is, waits for the source's word. */
export async function part(arrival: Arrival, say: Say): Promise<void> {
  if (!arrival.part(say)) return;
  await arrival.inTurn(async () => {
    // One that has what it needs to go on waits for the rest.
    if (arrival.state === "prepared" && !(await arrival.switches()))
      await dropNow(arrival, new ShrinkerError("link", "The source has gone"));
  });
}

/** This process ends; another takes up what has to be. */
export function leave(arrival: Arrival): Promise<void> {
  const { journal, qemu, watching } = arrival;
  return arrival.inTurn(async () => {
    if (arrival.state === "ended") return;
    if (arrival.state === "prepared" && (await arrival.switches()))
      await journal.update({ phase: "loaded", postcopy: true });
    else if (arrival.state === "prepared") return dropNow(arrival, new ShrinkerError("cancelled", "The receiver ends"));
    watching.abort();
    await qemu.close();
    await journal.release();
  });
}

async function end(arrival: Arrival): Promise<void> {
  const { journal, qemu, sockets, watching } = arrival;
  watching.abort();
  // First: whoever keeps the connection to QEMU looks for it when this end is closed.
  await journal.remove().catch(() => journal.release());
  await qemu.close();
  arrival.become("ended");
  await sockets.remove();
}
