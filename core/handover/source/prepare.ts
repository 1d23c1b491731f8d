import { LinkError } from "../../errors.ts";
import type { Departing } from "./begin.ts";
import type { DepartureContext } from "./departure-context.ts";
import type { Talk } from "./mailbox.ts";

/** Has the destination get ready. */
export async function prepare(
  { name, description, journal }: Departing,
  { options, signal, failed }: DepartureContext,
  talk: Talk,
): Promise<void> {
  const { machine, ramBytes, vcpus, cpuModel, accelerator, qemu } = description;
  const facts = { machine, ramBytes, vcpus, accelerator, qemu, ...(cpuModel !== undefined && { cpuModel }) };
  const postcopy = options.onTimeout === "postcopy";
  const paused = !journal.entry.runs;
  const { prepareMs } = talk.waits;
  const late = () =>
    new LinkError(`The destination is not ready for "${name}" within ${prepareMs / 1000} s: see what it says`);
  const word = { type: "prepare", name, machine: facts, paused, ...(postcopy && { postcopy }) } as const;
  await talk.ask(word, ["prepared"], { signal, failed, timeout: prepareMs, late });
}
