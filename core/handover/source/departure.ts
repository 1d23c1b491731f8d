import { asShrinkerError } from "../../engine/told.ts";
import { abortReason, LinkError, ShrinkerError } from "../../errors.ts";
import { QmpError } from "../../machines/qemu/qmp.ts";
import { isLive, runState } from "../../machines/qemu/run-state.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import type { MigrationStatus } from "../../machines/qemu/status.ts";
import type { Journal, JournalEntry } from "../journal.ts";
import { reach, standingStill } from "../reach.ts";
import type { Tell } from "../tell.ts";
import type { Departing } from "./begin.ts";
import { confirm, give, unsettled } from "./give.ts";
import { later, onTimeout, switchoverLimit, type Timeout } from "./limits.ts";
import type { Mailbox, Talk } from "./mailbox.ts";
import { beginPostcopy, finishPostcopy, hasSwitched, interrupted, type PostcopyContext } from "./postcopy.ts";
import { settle } from "./settle.ts";
import { type GuestStream, openStream, type StreamContext } from "./stream.ts";
import { takeBack } from "./take-back.ts";

/** A destination may have to start a QEMU. */
const PREPARE_MS = 60_000;
/** What the destination gets to say that the guest runs, when the user wants to end. */
const PATIENCE_MS = 5000;
/** For the reason of a failure that QEMU only calls a broken stream. */
const REASON_MS = 500;

/** The phases of a hand-over, as libvirt names them: what is here, who takes it, copying, the switch, and letting go. */
export type Phase = "begin" | "prepare" | "perform" | "finish" | "confirm";

export interface DepartureOptions extends Timeout {
  /** Bytes a second of the machine's stream, at most. */
  readonly bandwidth?: number | undefined;
  readonly downtimeLimitMs?: number | undefined;
  readonly autoConverge?: boolean | undefined;
  /** Milliseconds that the guest may stand still before it goes on at the source. */
  readonly switchoverTimeoutMs: number;
}

export interface DepartureContext extends StreamContext {
  readonly mailbox: Mailbox;
  readonly tell: Tell;
  /** Rejects when the session has failed. */
  readonly failed: Promise<never>;
  readonly options: DepartureOptions;
  readonly signal: AbortSignal;
  readonly onPhase: (phase: Phase) => void;
  readonly onStatus: (status: MigrationStatus) => void;
  /** From now on the guest can't be taken back: it goes on by post-copy. */
  readonly onPostcopy: () => void;
}

/** How long a guest's departure took, in milliseconds. */
export interface Departed {
  readonly totalMs: number;
  /** From when the guest stopped here until it was known to run there; undefined for one that did not run. */
  readonly downtimeMs: number | undefined;
}

/**
 * Where a guest is in the end. `unknown`: it stands still at the source, and may run at the destination, or waits there for the rest
 * of its memory.
 */
export interface MoveOutcome {
  readonly name: string;
  readonly where: "source" | "destination" | "unknown";
  readonly departed: Departed | undefined;
  /** Why it is not at the destination. */
  readonly error: ShrinkerError | undefined;
}

/**
 * Hands a guest over. Until it is given away, every failure leaves it running here. After that its journal stays where the
 * destination's word is missing, for `settle`. Never rejects.
 */
export async function depart(departing: Departing, context: DepartureContext): Promise<MoveOutcome> {
  const { name, machine, journal } = departing;
  const talk = context.mailbox.open(journal.migration, context.tell);
  const begun = performance.now();
  let stopped: number | undefined;
  let ran: number | undefined;
  const unlisten = machine.qmp.onEvent(({ event }) => {
    if (event === "STOP") stopped = performance.now();
  });
  let qmp: QemuSource["qmp"] | undefined = machine.qmp;
  let stream: GuestStream | undefined;
  try {
    context.onPhase("prepare");
    await prepare(departing, context, talk);
    context.onPhase("perform");
    stream = await openStream(journal.migration, context);
    const whole = await perform(departing, context, talk, stream);
    context.onPhase("finish");
    if (!journal.entry.postcopy && context.signal.aborted) throw abortReason(context.signal);
    talk.check();
    if (whole) await stream.close();
    qmp = await standingStill(journal.entry, qmp);
    await journal.update({ phase: "given", postcopy: !whole });
  } catch (thrown) {
    // QEMU answers nobody while it writes to a stream that stalls, so that goes first.
    await stream?.close();
    if (journal.entry.postcopy && (await hasSwitched(qmp ?? machine.qmp))) {
      // What the destination has may be all that can go on.
      await journal.update({ phase: "given" }).catch(() => {});
      context.mailbox.close(talk);
      return { name, ...(await leave(journal, new QemuSource(qmp ?? machine.qmp), thrown)) };
    }
    const back = qmp ? { journal, machine: new QemuSource(qmp) } : departing;
    const error = await takeBack(back, talk, asShrinkerError(thrown));
    context.mailbox.close(talk);
    return { name, where: "source", departed: undefined, error };
  } finally {
    unlisten();
  }
  // It can't be taken back any more, so a user who wants to end waits for the word as well; and with post-copy for all of the guest.
  const patience = later(context.signal, PATIENCE_MS);
  try {
    const source = qmp && new QemuSource(qmp);
    const giving = { ...context, signal: journal.entry.postcopy ? new AbortController().signal : patience.signal };
    const outcome = await handOver(journal, talk, giving, source, stream, () => {
      const now = performance.now();
      // With post-copy it runs long before all of it is there.
      if (ran === undefined) context.onPhase("confirm");
      ran ??= now;
      return { totalMs: now - begun, downtimeMs: stopped === undefined ? undefined : ran - stopped };
    });
    return { name, ...outcome };
  } finally {
    await stream.close();
    patience.stop();
    context.mailbox.close(talk);
  }
}

/** Has the destination let the guest run that was given to it; where it can't say so, it may say what else is so. */
async function handOver(
  journal: Journal,
  talk: Talk,
  context: PostcopyContext,
  source: QemuSource | undefined,
  stream: GuestStream,
  departed: () => Departed,
): Promise<Omit<MoveOutcome, "name">> {
  const there = () => ({ where: "destination", departed: departed(), error: undefined }) as const;
  try {
    await give(talk, context);
  } catch (error) {
    // What the guest has at the destination is not whole, so there is no other answer than to go on.
    if (journal.entry.postcopy) return leave(journal, source, error);
    try {
      const where = await settle(journal, talk, context, source);
      return where === "destination" ? there() : { where, departed: undefined, error: lostCopy(journal.entry, error) };
    } catch {
      const known = journal.entry.phase !== "given";
      return { where: known ? "source" : "unknown", departed: undefined, error: unsettled(journal.entry, error) };
    }
  }
  let outcome = there();
  if (journal.entry.postcopy) {
    try {
      if (!source) throw new LinkError("the source's QEMU has ended");
      await finishPostcopy(source, stream, context);
      outcome = there();
    } catch (error) {
      return leave(journal, source, error);
    }
  }
  await confirm(journal, talk, source);
  return outcome;
}

/** Leaves a post-copy to whoever takes it up. */
async function leave(journal: Journal, source: QemuSource | undefined, error: unknown) {
  await source?.qmp.close();
  await journal.release();
  return { where: "unknown", departed: undefined, error: interrupted(journal.entry, error) } as const;
}

/** Has the destination get ready. */
async function prepare({ name, description, journal }: Departing, context: DepartureContext, talk: Talk) {
  const { machine, ramBytes, vcpus, cpuModel, accelerator, qemu } = description;
  const facts = { machine, ramBytes, vcpus, accelerator, qemu, ...(cpuModel !== undefined && { cpuModel }) };
  const postcopy = context.options.onTimeout === "postcopy";
  const said = talk.say({
    type: "prepare",
    name,
    machine: facts,
    paused: !journal.entry.runs,
    ...(postcopy && { postcopy }),
  });
  const late = () =>
    new LinkError(`The destination is not ready for "${name}" within ${PREPARE_MS / 1000} s: see what it says`);
  const prepared = talk.hear(["prepared"], { signal: context.signal, timeout: PREPARE_MS, late });
  await Promise.race([Promise.all([said, prepared]), context.failed]);
}

/**
 * Copies the guest until it is loaded, paused, at the destination and stopped here; or as much of it as post-copy begins with.
 * Resolves with whether all of it is there.
 */
async function perform(
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
        if (!whole) await Promise.race([loaded, finishPostcopy(machine, stream, context, signal)]);
        return whole;
      },
      async (error) => {
        // A QEMU that dies when all of its guest is there has not kept it from moving.
        if (await hasDied(departing)) await Promise.race([loaded, after(options.switchoverTimeoutMs, error)]);
        else await reasonOf(error, [stream.broken, loaded]);
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

/** Waits for what tells more than "the stream broke", and rejects with it; else with the error itself. */
async function reasonOf(error: unknown, others: readonly Promise<unknown>[]): Promise<never> {
  const silence = new Promise<void>((resolve) => setTimeout(resolve, REASON_MS));
  const never = new Promise<never>(() => {});
  await Promise.race([silence, ...others.map((other) => other.then(() => never))]);
  throw error;
}

/** Of a guest whose copy died before it ran. */
export function lostCopy({ name }: Pick<JournalEntry, "name">, cause?: unknown): ShrinkerError {
  const message = `"${name}" goes on at the source: the destination has lost its copy before it ran. Run it again to move it`;
  return new ShrinkerError("input", message, { cause });
}
