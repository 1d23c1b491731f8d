import { LinkError, ShrinkerError } from "../../errors.ts";
import type { Arrival } from "./arrival.ts";

/**
 * RECOVER: waits once more for what a guest lacks whose post-copy was interrupted, if it lacks something. Rejects with `input` only
 * where its QEMU has ended, which is the guest's end.
 */
export function recover(arrival: Arrival): Promise<"prepared" | "whole"> {
  const { name, qemu } = arrival;
  return arrival.inTurn(async () => {
    if (!isHere(arrival)) throw new ShrinkerError("refused", `"${name}" is not here: it is ${arrival.state}`);
    if (!(await lacksMemory(arrival))) return "whole";
    try {
      await qemu.machine!.recover(await arrival.sockets.next(), arrival.context.signal);
      return "prepared";
    } catch (error) {
      // One that was too busy to say so may have everything, and refuses.
      if (!(await lacksMemory(arrival))) return "whole";
      throw new LinkError((error as Error).message, { cause: error });
    }
  });
}

async function lacksMemory({ name, qemu }: Arrival): Promise<boolean> {
  const lacks = await qemu.lacksMemory().catch((error: Error) => {
    throw new LinkError(error.message, { cause: error });
  });
  if (lacks === undefined) throw new ShrinkerError("input", `The QEMU of "${name}" has ended, and with it the guest`);
  return lacks;
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
