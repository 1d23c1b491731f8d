import { setTimeout as sleep } from "node:timers/promises";
import { asShrinkerError } from "../../engine/told.ts";
import type { ShrinkerError } from "../../errors.ts";
import type { MigrationStatus } from "../../machines/qemu/status.ts";
import type { Listener } from "../../transport/transport.ts";
import { Journal } from "../journal.ts";
import type { JournalEntry } from "../journal-entry.ts";
import { type ClusterLink, endSession } from "./cluster-link.ts";
import type { Mailbox } from "./mailbox.ts";
import { lostCopy, type MoveOutcome, unknown } from "./outcome.ts";
import { GuestLost } from "./recover-postcopy.ts";
import { settle } from "./settle.ts";

/** Before the first attempt to ask a destination again, and at most between two. */
const RETRY_MS = 50;
const MAX_RETRY_MS = 1000;

export interface SettleOptions {
  /** Dials the destination. */
  readonly open: () => Promise<ClusterLink>;
  /** State folder. */
  readonly state: string;
  /** Milliseconds for which the destination is asked again about guests that were given to it. */
  readonly settleMs: number;
  readonly listenLocal: () => Promise<Listener>;
  readonly signal: AbortSignal;
  readonly onStatus: (name: string, status: MigrationStatus) => void;
  /** A guest goes on by post-copy: it can't be taken back any more, and is waited for whatever the signal says. */
  readonly onPostcopy: (name: string) => void;
  /** The destination is going to be asked again about guests that were given to it, and why. */
  readonly onUnsettled: (names: readonly string[], why: ShrinkerError) => void;
}

type Note = (outcome: MoveOutcome) => void;

/** Asks about guests that were given away. Never rejects. */
export async function settleGiven(
  link: ClusterLink,
  given: readonly JournalEntry[],
  options: SettleOptions,
  note: Note,
) {
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
      if (where === "destination") note({ name, where, departed: undefined, error: undefined });
      else note(lostCopy(entry, where === "source"));
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

/** How a destination is asked again. */
interface Asking {
  readonly ask: (given: readonly JournalEntry[]) => Promise<void>;
  /** Whether it is still worth it; asked before each attempt. */
  readonly goesOn: () => boolean;
}

/** Asks again, over other sessions, about guests of which the destination has not said that they run there. Never rejects. */
export function settleRest(
  entries: readonly JournalEntry[],
  outcomes: ReadonlyMap<string, MoveOutcome>,
  options: SettleOptions,
  note: Note,
): Promise<void> {
  const ask = async (given: readonly JournalEntry[]) => {
    const link = await options.open();
    await settleGiven(link, given, options, note);
    await endSession(link, options.signal);
  };
  return askAgain(entries, outcomes, options, { ask, goesOn: () => true });
}

/** Asks again about one guest over a session over which others still move, for as long as they do. Never rejects. */
export function settleBeside(
  link: ClusterLink,
  entry: JournalEntry,
  outcomes: ReadonlyMap<string, MoveOutcome>,
  options: SettleOptions,
  note: Note,
  goesOn: () => boolean,
): Promise<void> {
  const ask = (given: readonly JournalEntry[]) => settleGiven(link, given, options, note);
  return askAgain([entry], outcomes, { ...options, settleMs: Number.POSITIVE_INFINITY }, { ask, goesOn });
}

async function askAgain(
  entries: readonly JournalEntry[],
  outcomes: ReadonlyMap<string, MoveOutcome>,
  { signal, settleMs, onUnsettled }: SettleOptions,
  { ask, goesOn }: Asking,
): Promise<void> {
  const until = performance.now() + settleMs;
  for (let delay = RETRY_MS; ; delay = Math.min(2 * delay, MAX_RETRY_MS)) {
    const open = entries.filter(({ name }) => {
      const outcome = outcomes.get(name);
      return outcome?.where === "unknown" && !(outcome.error?.cause instanceof GuestLost);
    });
    if (open.length === 0 || signal.aborted || performance.now() > until || !goesOn()) return;
    const names = open.map(({ name }) => name);
    if (delay === RETRY_MS) onUnsettled(names, outcomes.get(names[0]!)!.error!);
    // Meanwhile they stand still.
    await sleep(delay, undefined, { signal }).catch(() => {});
    try {
      await ask(open);
    } catch {
      // What is known so far stays known.
    }
  }
}
