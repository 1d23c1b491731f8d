import { asShrinkerError } from "../../engine/told.ts";
import { ShrinkerError } from "../../errors.ts";
import { runState } from "../../machines/qemu/run-state.ts";
import type { Arrival } from "./arrival.ts";

/** GO: the source has given the guest away. Does nothing where it was let run before: it may be its owner who has stopped it. */
export function take(arrival: Arrival): Promise<void> {
  const { journal, name, qemu } = arrival;
  return arrival.inTurn(async () => {
    if (arrival.state === "running") return;
    if (arrival.state !== "loaded" && arrival.state !== "taken")
      throw new ShrinkerError("refused", `"${name}" is not loaded here: it is ${arrival.state}`);
    const machine = await qemu.open();
    if (!machine) throw new ShrinkerError("input", `"${name}" was taken here, but its QEMU has ended since`);
    if (arrival.state === "loaded") {
      // Of a QEMU that has just died it would be a lie; its source may take the guest back.
      await runState(machine.qmp);
      await journal.update({ phase: "taken" });
      arrival.become("taken");
    }
    if (arrival.runs) await machine.run();
    arrival.landed = true;
    arrival.become("running");
    // Not now: the source waits for the word. Without it a process that takes this up would let the guest run once more.
    void arrival.inTurn(async () => {
      if (arrival.state === "running") await journal.update({ started: true }).catch(() => {});
      // While QEMU waits for a page of its guest nobody could connect to it.
      if (!journal.entry.postcopy) await qemu.close();
    });
  });
}

/** Has the guest looked at, once the source knows that it runs. Never rejects. */
export async function verify(arrival: Arrival): Promise<void> {
  try {
    await arrival.check?.();
  } catch (thrown) {
    arrival.error = asShrinkerError(thrown);
  }
}
