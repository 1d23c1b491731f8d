import { asShrinkerError } from "../../engine/told.ts";
import { CancelledError } from "../../errors.ts";
import type { MigrationStatus } from "../../machines/qemu/status.ts";
import { abandon, type Departing } from "./begin.ts";
import { type ClusterLink, endSession } from "./cluster-link.ts";
import { depart } from "./departure.ts";
import type { DepartureOptions, Phase } from "./departure-context.ts";
import { forgetAborted } from "./forget.ts";
import { type MoveOutcome, unknown } from "./outcome.ts";
import { type SettleOptions, settleBeside, settleGiven, settleRest } from "./settle-given.ts";
import type { Left } from "./take-up.ts";

/** What listeners throw keeps no guest from moving: the cluster rejects with it when all have ended. */
export interface ClusterOptions extends DepartureOptions, SettleOptions {
  /** Where guests go, as in their journals. */
  readonly to: string;
  /** How many guests are copied at once; the others follow in their order. */
  readonly parallel: number;
  readonly onPhase: (name: string, phase: Phase) => void;
  readonly onOutcome: (outcome: MoveOutcome) => void;
}

/**
 * Moves guests over one session, so that what one of them has sent, the others refer to. A guest that can't be moved stays, and
 * stops no other. Rejects where the destination can't be reached at all and no guest was given to it before; then nothing
 * has changed; and with what a listener has thrown.
 * @param earlier what earlier runs left: guests that were given away are settled first, of those that were given up the destination is told
 */
export async function moveCluster(
  departing: readonly Departing[],
  earlier: Left,
  given: ClusterOptions,
): Promise<MoveOutcome[]> {
  const { signal } = given;
  const failures: unknown[] = [];
  const options = heedless(given, failures);
  const outcomes = new Map<string, MoveOutcome>();
  const note = (outcome: MoveOutcome) => {
    outcomes.set(outcome.name, outcome);
    if (outcome.where !== "unknown") options.onOutcome(outcome);
  };
  try {
    const link = await options.open();
    await forgetAborted(link, earlier.aborted, options);
    await settleGiven(link, earlier.given, options, note);
    const queue = [...departing];
    let left = departing.length;
    const settling: Promise<void>[] = [];
    const noteMoved = (outcome: MoveOutcome, { journal }: Departing) => {
      note(outcome);
      left--;
      // It stands still at both ends, and the others may take hours.
      if (outcome.where === "unknown" && left > 0)
        settling.push(settleBeside(link, journal.entry, outcomes, options, note, () => left > 0));
    };
    // While one is handed over the next is copied, but no third one before the first has ended.
    const work = async () => {
      let handingOver: Promise<void> | undefined;
      for (let next = queue.shift(); next; next = queue.shift()) {
        const guest = next;
        const copied = Promise.withResolvers<void>();
        const moving = signal.aborted ? cancelled(guest) : moveOne(guest, link, options, copied.resolve);
        const moved = moving.then((outcome) => noteMoved(outcome, guest));
        const goesOn = await Promise.race([copied.promise.then(() => true), moved.then(() => false)]);
        if (!goesOn) continue;
        await handingOver;
        handingOver = moved;
      }
      await handingOver;
    };
    await Promise.all(Array.from({ length: Math.max(1, options.parallel) }, work));
    await Promise.all(settling);
    await endSession(link, signal);
  } catch (thrown) {
    const error = asShrinkerError(thrown);
    for (const guest of departing.filter(({ name }) => !outcomes.has(name))) {
      await abandon(guest);
      note({ name: guest.name, where: "source", departed: undefined, error });
    }
    if (earlier.given.length === 0) throw error;
    for (const entry of earlier.given.filter(({ name }) => !outcomes.has(name))) note(unknown(entry, error));
  }
  await settleRest([...departing.map(({ journal }) => journal.entry), ...earlier.given], outcomes, options, note);
  for (const outcome of outcomes.values()) if (outcome.where === "unknown") options.onOutcome(outcome);
  if (failures.length > 0) throw failures[0];
  return [...outcomes.values()];
}

/** The same, with listeners that don't throw: what they would have is kept. */
function heedless(options: ClusterOptions, failures: unknown[]): ClusterOptions {
  const told = new Set<string>();
  const heed =
    <A extends unknown[]>(listener: (...args: A) => void) =>
    (...args: A) => {
      try {
        listener(...args);
      } catch (error) {
        failures.push(error);
      }
    };
  return {
    ...options,
    onPhase: heed(options.onPhase),
    onStatus: heed(options.onStatus),
    onPostcopy: heed(options.onPostcopy),
    // Once of each.
    onUnsettled: heed((names, why) => {
      const news = names.filter((name) => !told.has(name));
      for (const name of news) told.add(name);
      if (news.length > 0) options.onUnsettled(news, why);
    }),
    onOutcome: heed(options.onOutcome),
  };
}

/**
 * Moves a guest. Never rejects.
 * @param onCopied called when another can be copied, before this one has ended; not where it stays, or goes by post-copy
 */
async function moveOne(
  departing: Departing,
  link: ClusterLink,
  options: ClusterOptions,
  onCopied: () => void,
): Promise<MoveOutcome> {
  const { name } = departing;
  const { session, mailbox, entrance } = link;
  return depart(departing, {
    ...{ mailbox, entrance, options, sender: session.sender, failed: session.failed, tell: session.tell },
    ...{ signal: options.signal, listenLocal: options.listenLocal },
    onCopied,
    onPhase: (phase: Phase) => options.onPhase(name, phase),
    onStatus: (status: MigrationStatus) => options.onStatus(name, status),
    onPostcopy: () => options.onPostcopy(name),
  });
}

async function cancelled(departing: Departing): Promise<MoveOutcome> {
  await abandon(departing);
  return { name: departing.name, where: "source", departed: undefined, error: new CancelledError() };
}
