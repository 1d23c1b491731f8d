import { abortReason } from "../../errors.ts";
import { QmpError } from "../../machines/qemu/qmp.ts";
import { isLive, runState } from "../../machines/qemu/run-state.ts";
import { reach } from "../reach.ts";
import type { Departing } from "./begin.ts";
import type { DepartureContext } from "./departure-context.ts";
import { onTimeout, switchoverLimit } from "./limits.ts";
import type { Talk } from "./mailbox.ts";
import { beginPostcopy, finishPostcopy } from "./postcopy.ts";
import type { GuestStream } from "./stream.ts";

/** For the reason of a failure that QEMU only calls a broken stream. */
const REASON_MS = 500;

/**
 * Copies the guest until it is loaded, paused, at the destination and stopped here; or as much of it as post-copy begins with.
 * Resolves with whether all of it is there.
 */
export async function perform(
  departing: Departing,
  context: DepartureContext,
  talk: Talk,
  stream: GuestStream,
): Promise<boolean> {
  const { machine, journal } = departing;
  const { options } = context;
  const over = new AbortController();
  const { signal } = over;
  let switching: Promise<void> | undefined;
  const toPostcopy = () => {
    switching = beginPostcopy(departing).then(context.onPostcopy);
    return switching;
  };
  const keep = (settings: NonNullable<typeof journal.entry.settings>) => journal.update({ settings });
  await machine.prepare({
    bandwidth: options.bandwidth,
    downtimeLimitMs: options.downtimeLimitMs,
    autoConverge: options.autoConverge,
    postcopy: options.onTimeout === "postcopy",
    pauseBeforeSwitchover: false,
    keep,
  });
  const limit = switchoverLimit(departing, options.switchoverTimeoutMs);
  const loaded = talk.hear(["loaded"], { signal });
  loaded.catch(() => {});
  try {
    await start(departing, stream.address);
    const { onStatus } = context;
    const wanted = ["completed", "postcopy-active", "postcopy-paused"];
    const copied = machine.waitFor(wanted, { signal, onStatus }).then(
      async ({ status }) => {
        const whole = status === "completed";
        if (whole) context.onCopied();
        else await Promise.race([loaded, finishPostcopy(machine, stream, context, signal)]);
        return whole;
      },
      async (error) => {
        // A QEMU that dies when all of its guest is there has not kept it from moving.
        if (await hasDied(departing)) await Promise.race([loaded, after(options.switchoverTimeoutMs, error)]);
        else await reasonOf(error, loaded, stream.broken);
        return !journal.entry.postcopy;
      },
    );
    const ended = aborted(context.signal, signal, () => switching === undefined);
    const timeout = onTimeout(departing, options, AbortSignal.any([context.signal, signal]), limit, toPostcopy);
    const [whole] = await Promise.race([
      Promise.all([copied, loaded]),
      ...[context.failed, limit.exceeded, timeout, ended],
    ]);
    return whole;
  } finally {
    limit.stop();
    over.abort();
    // Whoever takes the guest back has to know whether it has switched.
    await switching?.catch(() => {});
  }
}

/** Rejects when the user wants to end, if that counts at that moment. */
function aborted(user: AbortSignal, over: AbortSignal, counts: () => boolean): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = () => {
      if (counts()) reject(abortReason(user));
    };
    user.addEventListener("abort", onAbort, { signal: over });
    if (user.aborted) onAbort();
  });
}

/** Has QEMU begin to send the guest; the journal says so before. */
async function start({ machine, journal }: Departing, uri: string): Promise<void> {
  await journal.update({ started: true, ran: isLive(await runState(machine.qmp)) });
  try {
    await machine.start(uri);
  } catch (error) {
    // Then what moves it, or has stopped it, is somebody else.
    if (error instanceof QmpError) await journal.update({ started: false });
    throw error;
  }
}

async function after(ms: number, error: unknown): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, ms).unref());
  throw error;
}

/** Whether nobody is left behind the QMP socket, so that the guest can't run here. */
async function hasDied({ machine: { qmp }, journal }: Departing): Promise<boolean> {
  const open = new Promise<false>((resolve) => setImmediate(resolve, false));
  if (!(await Promise.race([qmp.closed.then(() => true), open]))) return false;
  try {
    const again = await reach(journal.entry);
    await again?.close();
    return again === undefined;
  } catch {
    return false;
  }
}

/** Rejects with what tells more than QEMU's "the stream broke": what the destination says, or why the stream broke; else with that. */
async function reasonOf(error: unknown, said: Promise<unknown>, broken: Promise<unknown>): Promise<never> {
  for (const [told, ms] of [
    [said, REASON_MS],
    [broken, 0],
  ] as const) {
    const silence = new Promise<void>((resolve) => setTimeout(resolve, ms));
    await Promise.race([silence, told.then(() => silence)]);
  }
  throw error;
}
