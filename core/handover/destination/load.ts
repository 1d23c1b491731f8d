import { asShrinkerError, told } from "../../engine/told.ts";
import { LinkError, ShrinkerError } from "../../errors.ts";
import type { DestinationWord } from "../../wire/handover.ts";
import type { Arrival } from "./arrival.ts";
import { dropNow } from "./end.ts";

/** Tells the source when the guest is loaded, or that it never will be; then watches over the copy. Never rejects. */
export async function load(arrival: Arrival): Promise<void> {
  const { context, journal, migration, qemu, watching } = arrival;
  const signal = AbortSignal.any([context.signal, watching.signal]);
  let word: DestinationWord | undefined;
  let postcopy = false;
  const loaded = async () => {
    try {
      postcopy = (await qemu.machine!.loaded(signal)).status !== "completed";
      return undefined;
    } catch (error) {
      return asShrinkerError(error);
    }
  };
  let error = await loaded();
  const cut = error instanceof LinkError && qemu.machine!.qmp.isClosed;
  if (cut && (await qemu.reconnect(context.signal).catch(() => false))) error = await loaded();
  if (error && qemu.machine!.qmp.isClosed) error = await withLastWords(error, arrival);
  await arrival.inTurn(async () => {
    if (arrival.state !== "prepared" || signal.aborted) return;
    if (!error)
      await journal.update({ phase: "loaded", postcopy }).catch((why) => {
        error = asShrinkerError(why);
      });
    if (error) await dropNow(arrival, error);
    else arrival.become("loaded");
    word = error ? { type: "failed", migration, ...told(error) } : { type: "loaded", migration };
  });
  if (word) await arrival.say(word);
  if (word?.type === "loaded") await watchLoaded(arrival);
}

/** A copy whose QEMU dies before it was taken is lost, and its source has to know: it may take the guest back. Never rejects. */
export async function watchLoaded(arrival: Arrival): Promise<void> {
  const { context, journal, migration, name, qemu, watching } = arrival;
  await qemu.machine!.qmp.closed;
  let error: ShrinkerError | undefined;
  let again = false;
  await arrival.inTurn(async () => {
    if (arrival.state !== "loaded" || watching.signal.aborted) return;
    // Who can't be reached for another reason is not dead; then it is the next word that tells.
    if (!qemu.machine?.qmp.isClosed || (await qemu.reconnect(context.signal).catch(() => true))) {
      again = qemu.machine?.qmp.isClosed === false;
      return;
    }
    // Whoever takes it up finds it dead, too.
    await journal.update({ phase: "lost" }).catch(() => {});
    const died = new ShrinkerError("input", `The QEMU that had loaded "${name}" has died`);
    error = arrival.error = await withLastWords(died, arrival);
    arrival.become("lost");
  });
  if (error) await arrival.say({ type: "failed", migration, ...told(error) });
  if (again) await watchLoaded(arrival);
}

async function withLastWords(error: ShrinkerError, { qemu }: Arrival): Promise<ShrinkerError> {
  const words = await qemu.lastWords();
  return words === "" ? error : new ShrinkerError(error.code, error.message + words, { cause: error });
}
