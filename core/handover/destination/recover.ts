import { ShrinkerError } from "../../errors.ts";
import type { Arrival } from "./arrival.ts";

/** RECOVER: waits once more for what a guest lacks whose post-copy was interrupted, if it lacks something. */
export function recover(arrival: Arrival): Promise<"prepared" | "whole"> {
  const { context, name, qemu, sockets } = arrival;
  return arrival.inTurn(async () => {
    if (!isHere(arrival)) throw new ShrinkerError("refused", `"${name}" is not here: it is ${arrival.state}`);
    const lacks = await qemu.lacksMemory();
    if (lacks === undefined) throw new ShrinkerError("input", `The QEMU of "${name}" has ended, and with it the guest`);
    if (!lacks) return "whole";
    await qemu.machine!.recover(await sockets.next(), context.signal);
    return "prepared";
  });
}

/** Whether the guest runs, or is to run, without all of its memory. */
export function isIncomplete(arrival: Arrival): Promise<boolean> {
  return arrival.inTurn(
    async () =>
      isHere(arrival) && arrival.journal.entry.postcopy === true && (await arrival.qemu.lacksMemory()) === true,
  );
}

function isHere({ state }: Arrival): boolean {
  return state === "loaded" || state === "taken" || state === "running";
}
