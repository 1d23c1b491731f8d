import { setTimeout as sleep } from "node:timers/promises";
import type { SourceSession } from "../engine/session.ts";
import { asShrinkerError } from "../engine/told.ts";
import { CancelledError, ShrinkerError } from "../errors.ts";
import type { MigrationStatus } from "../machines/qemu/status.ts";
import type { Listener } from "../transport/transport.ts";
import type { TunnelEntrance } from "../tunnel/entrance.ts";
import type { Departing } from "./begin.ts";
import { type Departed, type DepartureOptions, depart, type Phase } from "./departure.ts";
import { Journal, type JournalEntry } from "./journal.ts";
import type { Mailbox } from "./mailbox.ts";
import { forget, settle } from "./settle.ts";

/** Between attempts to reach a destination that has not said whether guests run there. */
const RETRY_MS = 1000;

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
  /** How many guests move at once; the others follow in their order. */
  readonly parallel: number;
  /** Milliseconds for which the destination is asked again about guests that were given to it. */
  readonly settleMs: number;
  readonly listenLocal: () => Promise<Listener>;
  readonly signal: AbortSignal;
  readonly onPhase: (name: string, phase: Phase) => void;
  readonly onStatus: (name: string, status: MigrationStatus) => void;
  readonly onOutcome: (outcome: MoveOutcome) => void;
}

/** Where a guest is in the end. `unknown`: it stands still at the source, and may run at the destination. */
export interface MoveOutcome {
  readonly name: string;
  readonly where: "source" | "destination" | "unknown";
  readonly departed: Departed | undefined;
  readonly error: ShrinkerError | undefined;
}

/**
 * Moves guests over one session, so that what one of them has sent, the others refer to. A guest that can't be moved stays, and
 * stops no other. Rejects only where the destination can't be reached at all; then nothing has changed.
 * @param given journals of earlier runs whose guests were given away: these are settled first
 * @param aborted and of those that were given up, of which the destination is told
 */
export async function moveCluster(
  departing: readonly Departing[],
  given: readonly JournalEntry[],
  aborted: readonly JournalEntry[],
  options: ClusterOptions,
): Promise<MoveOutcome[]> {
  const { signal, onOutcome } = options;
  let link: ClusterLink;
  try {
    link = await options.open();
  } catch (error) {
    await Promise.all(departing.map(abandon));
    throw error;
  }
  for (const entry of aborted) await withJournal(options.state, entry, (journal) => forgetOver(link, journal));
  const outcomes = await settleAll(link, given, options);
  const queue = [...departing];
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const outcome = signal.aborted ? await cancelled(next) : await moveOne(next, link, options);
      outcomes.push(outcome);
      if (outcome.where !== "unknown") onOutcome(outcome);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, options.parallel) }, work));
  await Promise.race([link.session.finish(0), link.session.failed]).catch((error) => link.session.abort(error));

  const until = performance.now() + options.settleMs;
  for (;;) {
    const open = outcomes.filter(({ where }) => where === "unknown");
    if (open.length === 0 || signal.aborted || performance.now() > until) break;
    await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
    for (const outcome of await settleAgain(open, departing, given, options)) {
      outcomes[outcomes.findIndex(({ name }) => name === outcome.name)] = outcome;
    }
  }
  for (const outcome of outcomes) if (outcome.where === "unknown") onOutcome(outcome);
  return outcomes;
}

async function moveOne(departing: Departing, link: ClusterLink, options: ClusterOptions): Promise<MoveOutcome> {
  const { name } = departing;
  const { session, mailbox, entrance } = link;
  const context = {
    ...{ mailbox, entrance, options, sender: session.sender, failed: session.failed, tell: session.tell },
    ...{ signal: options.signal, listenLocal: options.listenLocal },
    onPhase: (phase: Phase) => options.onPhase(name, phase),
    onStatus: (status: MigrationStatus) => options.onStatus(name, status),
  };
  try {
    return { name, where: "destination", departed: await depart(departing, context), error: undefined };
  } catch (thrown) {
    const error = asShrinkerError(thrown);
    return { name, where: error.code === "unsettled" ? "unknown" : "source", departed: undefined, error };
  }
}

/** Asks about guests that were given away. */
async function settleAll(link: ClusterLink, given: readonly JournalEntry[], options: ClusterOptions) {
  const outcomes: MoveOutcome[] = [];
  for (const entry of given) {
    const outcome = await withJournal(options.state, entry, async (journal): Promise<MoveOutcome> => {
      const { name } = entry;
      const talk = link.mailbox.open(journal.migration, link.session.tell);
      try {
        const where = await settle(journal, talk, { failed: link.session.failed, signal: options.signal });
        const message = `"${name}" goes on at the source: the destination had lost its copy. Run it again to move it`;
        const error = where === "source" ? new ShrinkerError("input", message) : undefined;
        return { name, where, departed: undefined, error };
      } catch (error) {
        await journal.release();
        return { name, where: "unknown", departed: undefined, error: asShrinkerError(error) };
      } finally {
        link.mailbox.close(talk);
      }
    });
    if (outcome) outcomes.push(outcome);
  }
  for (const outcome of outcomes) if (outcome.where !== "unknown") options.onOutcome(outcome);
  return outcomes;
}

async function settleAgain(
  open: readonly MoveOutcome[],
  departing: readonly Departing[],
  given: readonly JournalEntry[],
  options: ClusterOptions,
): Promise<MoveOutcome[]> {
  const entries = [...departing.map(({ journal }) => journal.entry), ...given];
  const wanted = entries.filter((entry) => open.some(({ name }) => name === entry.name));
  let link: ClusterLink;
  try {
    link = await options.open();
  } catch {
    return [];
  }
  const settled = await settleAll(link, wanted, options);
  await Promise.race([link.session.finish(0), link.session.failed]).catch((error) => link.session.abort(error));
  return settled;
}

async function forgetOver({ mailbox, session }: ClusterLink, journal: Journal): Promise<void> {
  const talk = mailbox.open(journal.migration, session.tell);
  await forget(journal, talk);
  mailbox.close(talk);
}

async function withJournal<T>(state: string, entry: JournalEntry, work: (journal: Journal) => Promise<T>) {
  const journal = await Journal.resume(state, entry);
  return journal && work(journal);
}

async function cancelled(departing: Departing): Promise<MoveOutcome> {
  await abandon(departing);
  return { name: departing.name, where: "source", departed: undefined, error: new CancelledError() };
}

/** Nothing has been done with it yet. */
export async function abandon({ machine, journal }: Departing): Promise<void> {
  await machine.qmp.close();
  await journal.remove();
}
