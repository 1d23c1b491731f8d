import { setTimeout as sleep } from "node:timers/promises";
import type { SourceSession } from "../../engine/session.ts";
import { asShrinkerError } from "../../engine/told.ts";
import { abortReason, CancelledError, type ShrinkerError } from "../../errors.ts";
import type { MigrationStatus } from "../../machines/qemu/status.ts";
import type { Listener } from "../../transport/transport.ts";
import type { TunnelEntrance } from "../../tunnel/entrance.ts";
import { Journal, type JournalEntry } from "../journal.ts";
import type { Departing } from "./begin.ts";
import { type DepartureOptions, depart, lostCopy, type MoveOutcome, type Phase } from "./departure.ts";
import { unsettled } from "./give.ts";
import type { Mailbox } from "./mailbox.ts";
import { GuestLost, interrupted } from "./postcopy.ts";
import { settle } from "./settle.ts";
import { forget } from "./take-back.ts";
import type { Left } from "./take-up.ts";

/** Before the first attempt to ask a destination again, and at most between two. */
const RETRY_MS = 50;
const MAX_RETRY_MS = 1000;
/** What the destination gets to end a session in which nothing is left to do. */
const FINISH_MS = 10_000;

/** A session over which guests are handed over. */
export interface ClusterLink {
  readonly session: SourceSession;
  readonly mailbox: Mailbox;
  readonly entrance: TunnelEntrance;
}

export interface ClusterOptions extends DepartureOptions {
  /** Dials the destination. */
  readonly open: () => Promise<ClusterLink>;
  /** State folder. */
  readonly state: string;
  /** Where guests go, as in their journals. */
  readonly to: string;
  /** How many guests move at once; the others follow in their order. */
  readonly parallel: number;
  /** Milliseconds for which the destination is asked again about guests that were given to it. */
  readonly settleMs: number;
  readonly listenLocal: () => Promise<Listener>;
  readonly signal: AbortSignal;
  readonly onPhase: (name: string, phase: Phase) => void;
  readonly onStatus: (name: string, status: MigrationStatus) => void;
  /** A guest goes on by post-copy: it can't be taken back any more, and is waited for whatever the signal says. */
  readonly onPostcopy: (name: string) => void;
  /** The destination is going to be asked again about guests that were given to it, and why. */
  readonly onUnsettled: (names: readonly string[], why: ShrinkerError) => void;
  readonly onOutcome: (outcome: MoveOutcome) => void;
}

/**
 * Moves guests over one session, so that what one of them has sent, the others refer to. A guest that can't be moved stays, and
 * stops no other. Rejects only where the destination can't be reached at all and no guest was given to it before; then nothing
 * has changed.
 * @param left by earlier runs: guests that were given away are settled first, of those that were given up the destination is told
 */
export async function moveCluster(
  departing: readonly Departing[],
  left: Left,
  options: ClusterOptions,
): Promise<MoveOutcome[]> {
  const { signal, onOutcome } = options;
  const outcomes = new Map<string, MoveOutcome>();
  const note = (outcome: MoveOutcome) => {
    outcomes.set(outcome.name, outcome);
    if (outcome.where !== "unknown") onOutcome(outcome);
  };
  try {
    const link = await options.open();
    await forgetAll(link, left.aborted, options);
    await settleAll(link, left.given, options, note);
    const queue = [...departing];
    const work = async () => {
      for (let next = queue.shift(); next; next = queue.shift())
        note(signal.aborted ? await cancelled(next) : await moveOne(next, link, options));
    };
    await Promise.all(Array.from({ length: Math.max(1, options.parallel) }, work));
    await finish(link, signal);
  } catch (thrown) {
    const error = asShrinkerError(thrown);
    for (const guest of departing.filter(({ name }) => !outcomes.has(name))) {
      await abandon(guest);
      note({ name: guest.name, where: "source", departed: undefined, error });
    }
    if (left.given.length === 0) throw error;
    for (const entry of left.given.filter(({ name }) => !outcomes.has(name))) note(unknown(entry, error));
  }
  await settleRest([...departing.map(({ journal }) => journal.entry), ...left.given], outcomes, options, note);
  for (const outcome of outcomes.values()) if (outcome.where === "unknown") onOutcome(outcome);
  return [...outcomes.values()];
}

async function moveOne(departing: Departing, link: ClusterLink, options: ClusterOptions): Promise<MoveOutcome> {
  const { name } = departing;
  const { session, mailbox, entrance } = link;
  return depart(departing, {
    ...{ mailbox, entrance, options, sender: session.sender, failed: session.failed, tell: session.tell },
    ...{ signal: options.signal, listenLocal: options.listenLocal },
    onPhase: (phase: Phase) => options.onPhase(name, phase),
    onStatus: (status: MigrationStatus) => options.onStatus(name, status),
    onPostcopy: () => options.onPostcopy(name),
  });
}

/** Ends the session in order, unless it has failed, or somebody does not want to wait for that. Never rejects. */
async function finish({ session }: ClusterLink, signal: AbortSignal): Promise<void> {
  const over = AbortSignal.any([signal, AbortSignal.timeout(FINISH_MS)]);
  const stopped = Promise.withResolvers<never>();
  const stop = () => stopped.reject(abortReason(over));
  over.addEventListener("abort", stop, { once: true });
  if (over.aborted) stop();
  try {
    await Promise.race([session.finish(0), session.failed, stopped.promise]);
  } catch (error) {
    await session.abort(error as Error);
  } finally {
    over.removeEventListener("abort", stop);
  }
}

type Note = (outcome: MoveOutcome) => void;

/** Asks again, over other sessions, about guests of which the destination has not said that they run there. */
async function settleRest(
  entries: readonly JournalEntry[],
  outcomes: ReadonlyMap<string, MoveOutcome>,
  options: ClusterOptions,
  note: Note,
): Promise<void> {
  const until = performance.now() + options.settleMs;
  for (let delay = RETRY_MS; ; delay = Math.min(2 * delay, MAX_RETRY_MS)) {
    const open = [...outcomes.values()].filter(
      ({ where, error }) => where === "unknown" && !(error?.cause instanceof GuestLost),
    );
    if (open.length === 0 || options.signal.aborted || performance.now() > until) return;
    const names = open.map(({ name }) => name);
    if (delay === RETRY_MS) options.onUnsettled(names, open[0]!.error!);
    // Meanwhile they stand still.
    await sleep(delay, undefined, { signal: options.signal }).catch(() => {});
    try {
      const link = await options.open();
      const wanted = entries.filter(({ name }) => names.includes(name));
      await settleAll(link, wanted, options, note);
      await finish(link, options.signal);
    } catch {
      // What is known so far stays known.
    }
  }
}

/** Asks about guests that were given away. Never rejects. */
async function settleAll(link: ClusterLink, given: readonly JournalEntry[], options: ClusterOptions, note: Note) {
  const settleOne = async (entry: JournalEntry) => {
    const { name } = entry;
    let journal: Journal | undefined;
    let talk: ReturnType<Mailbox["open"]> | undefined;
    try {
      journal = await Journal.resume(options.state, entry);
      // Somebody has resolved it.
      if (journal?.entry.phase !== "given") return;
      talk = link.mailbox.open(journal.migration, link.session.tell);
      const { session, entrance } = link;
      const where = await settle(journal, talk, {
        ...{ failed: session.failed, sender: session.sender, entrance, signal: options.signal },
        listenLocal: options.listenLocal,
        onStatus: (status) => options.onStatus(name, status),
        onPostcopy: () => options.onPostcopy(name),
      });
      const error = where === "source" ? lostCopy(entry) : undefined;
      note({ name, where, departed: undefined, error });
    } catch (error) {
      const here = journal !== undefined && journal.entry.phase !== "given";
      note(
        here ? { name, where: "source", departed: undefined, error: asShrinkerError(error) } : unknown(entry, error),
      );
    } finally {
      await journal?.release();
      if (talk) link.mailbox.close(talk);
    }
  };
  // One that has to get the rest of its memory must not keep the others waiting.
  await Promise.all(given.map(settleOne));
}

function unknown(entry: JournalEntry, why: unknown): MoveOutcome {
  return {
    name: entry.name,
    where: "unknown",
    departed: undefined,
    error: entry.postcopy ? interrupted(entry, why) : unsettled(entry, why),
  };
}

/** Has the destination drop what it has of migrations that were given up. What it can't be told stays for another time. */
async function forgetAll({ mailbox, session }: ClusterLink, aborted: readonly JournalEntry[], options: ClusterOptions) {
  for (const entry of aborted) {
    // Another destination would know nothing of it.
    if (entry.to !== options.to) continue;
    const journal = await Journal.resume(options.state, entry);
    if (!journal) continue;
    const talk = mailbox.open(journal.migration, session.tell);
    await forget(journal, talk).catch(() => {});
    await journal.release();
    mailbox.close(talk);
  }
}

async function cancelled(departing: Departing): Promise<MoveOutcome> {
  await abandon(departing);
  return { name: departing.name, where: "source", departed: undefined, error: new CancelledError() };
}

/** Nothing has been done with it yet. Never rejects. */
export async function abandon({ machine, journal }: Departing): Promise<void> {
  await machine.qmp.close();
  await journal.remove().catch(() => journal.release());
}
