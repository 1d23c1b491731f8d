import type { Sender } from "../engine/sender.ts";
import { asShrinkerError } from "../engine/told.ts";
import { abortReason, LinkError, ShrinkerError } from "../errors.ts";
import { QmpClient } from "../machines/qemu/qmp.ts";
import type { QemuSource } from "../machines/qemu/source.ts";
import type { MigrationStatus } from "../machines/qemu/status.ts";
import type { Connection, Listener } from "../transport/transport.ts";
import type { TunnelEntrance } from "../tunnel/entrance.ts";
import { machineService } from "../wire/handover.ts";
import type { Departing } from "./begin.ts";
import { confirm, give } from "./give.ts";
import type { Mailbox, Talk, Tell } from "./mailbox.ts";
import { settle } from "./settle.ts";
import { takeBack } from "./take-back.ts";

/** A destination may have to start a QEMU. */
const PREPARE_MS = 60_000;
/** To see whether a QEMU still listens. */
const PROBE_MS = 1000;
/** For the reason of a failure that QEMU only calls a broken stream. */
const REASON_MS = 500;

/** The phases of a hand-over, as libvirt names them: what is here, who takes it, copying, the switch, and letting go. */
export type Phase = "begin" | "prepare" | "perform" | "finish" | "confirm";

export interface DepartureOptions {
  /** Bytes a second of the machine's stream, at most. */
  readonly bandwidth?: number | undefined;
  readonly downtimeLimitMs?: number | undefined;
  readonly autoConverge?: boolean | undefined;
  /** Milliseconds that copying may take, and what to do then. */
  readonly timeoutMs?: number | undefined;
  readonly onTimeout: "cancel" | "stop" | "postcopy";
  /** Milliseconds that the guest may stand still before it goes on at the source. */
  readonly switchoverTimeoutMs: number;
}

export interface DepartureContext {
  readonly mailbox: Mailbox;
  readonly tell: Tell;
  readonly sender: Sender;
  readonly entrance: TunnelEntrance;
  /** Rejects when the session has failed. */
  readonly failed: Promise<never>;
  /** Listens at a socket of its own, for QEMU; `unix:PATH` is its address. */
  readonly listenLocal: () => Promise<Listener>;
  readonly options: DepartureOptions;
  readonly signal: AbortSignal;
  readonly onPhase: (phase: Phase) => void;
  readonly onStatus: (status: MigrationStatus) => void;
}

/** How long a guest's departure took, in milliseconds. */
export interface Departed {
  readonly totalMs: number;
  /** From when the guest stopped here until it was known to run there; undefined for one that did not run. */
  readonly downtimeMs: number | undefined;
}

/**
 * Hands a guest over. Until it is given away, every failure leaves it running here: rejects with why. After that, rejects with
 * `unsettled` where the destination's word is missing; the journal then stays, for `settle`.
 */
export async function depart(departing: Departing, context: DepartureContext): Promise<Departed> {
  const { machine, journal } = departing;
  const talk = context.mailbox.open(journal.migration, context.tell);
  const begun = performance.now();
  let stopped: number | undefined;
  const unlisten = machine.qmp.onEvent(({ event }) => {
    if (event === "STOP") stopped = performance.now();
  });
  try {
    try {
      context.onPhase("prepare");
      await prepare(departing, context, talk);
      context.onPhase("perform");
      await perform(departing, context, talk);
    } catch (error) {
      await takeBack(departing, talk, asShrinkerError(error));
      throw error;
    }
    context.onPhase("finish");
    let now: number;
    try {
      await give(journal, talk, context);
      now = performance.now();
      context.onPhase("confirm");
      await confirm(journal, talk, machine);
    } catch (error) {
      await askAgain(departing, talk, context, error);
      now = performance.now();
    }
    return { totalMs: now - begun, downtimeMs: stopped === undefined ? undefined : now - stopped };
  } finally {
    unlisten();
    context.mailbox.close(talk);
  }
}

/** The destination can't say that the guest runs there. It may say what else is so; rejects where the guest is not there. */
async function askAgain({ name, journal, machine }: Departing, talk: Talk, context: DepartureContext, error: unknown) {
  try {
    const where = await settle(journal, talk, context, machine);
    if (where === "destination") return;
  } catch {
    await machine.qmp.close();
    await journal.release();
    throw error;
  }
  const message = `"${name}" goes on at the source: the destination has lost its copy before it ran`;
  throw new ShrinkerError("input", message, { cause: error });
}

/** Has the destination get ready. */
async function prepare({ name, description, journal }: Departing, context: DepartureContext, talk: Talk) {
  const { machine, ramBytes, vcpus, cpuModel, accelerator, qemu } = description;
  const facts = { machine, ramBytes, vcpus, accelerator, qemu, ...(cpuModel !== undefined && { cpuModel }) };
  const paused = !journal.entry.runs;
  const postcopy = context.options.onTimeout === "postcopy";
  await talk.say({ type: "prepare", name, machine: facts, paused, postcopy });
  const late = () =>
    new LinkError(`The destination is not ready for "${name}" within ${PREPARE_MS / 1000} s: see what it says`);
  const prepared = talk.hear(["prepared"], { signal: context.signal, timeout: PREPARE_MS, late });
  await Promise.race([prepared, context.failed]);
}

/** Copies the guest until it is loaded, paused, at the destination and stopped here. */
async function perform(departing: Departing, context: DepartureContext, talk: Talk): Promise<void> {
  const { machine, journal } = departing;
  const { options } = context;
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  const keep = (settings: NonNullable<typeof journal.entry.settings>) => journal.update({ settings });
  await machine.prepare({
    bandwidth: options.bandwidth,
    downtimeLimitMs: options.downtimeLimitMs,
    autoConverge: options.autoConverge,
    postcopy: options.onTimeout === "postcopy",
    pauseBeforeSwitchover: false,
    keep,
  });
  const listener = await context.listenLocal();
  const broken = carryFrom(listener, machineService(journal.migration), context, signal);
  const limit = switchoverLimit(departing, options.switchoverTimeoutMs);
  const loaded = talk.hear(["loaded"], { signal });
  loaded.catch(() => {});
  try {
    await machine.start(listener.address);
    const { onStatus } = context;
    const completed = machine.waitFor(["completed"], { signal, onStatus }).then(
      () => {},
      async (error) => {
        // A QEMU that dies when all of its guest is there has not kept it from moving.
        if (await hasDied(machine)) await Promise.race([loaded, after(options.switchoverTimeoutMs, error)]);
        else await reasonOf(error, [broken, loaded]);
      },
    );
    const timeout = onTimeout(departing, options, signal);
    await Promise.race([Promise.all([completed, loaded]), context.failed, limit.exceeded, timeout]);
  } finally {
    limit.stop();
    // QEMU answers nobody while it writes to a stream that stalls, so that goes first.
    over.abort();
    await listener.close();
  }
}

async function after(ms: number, error: unknown): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, ms).unref());
  throw error;
}

/** Whether nobody is left behind the QMP socket, so that the guest can't run here. */
async function hasDied({ qmp }: QemuSource): Promise<boolean> {
  const closed = await Promise.race([qmp.closed.then(() => true), Promise.resolve(false)]);
  if (!closed) return false;
  try {
    await (await QmpClient.connect(qmp.path, { signal: AbortSignal.timeout(PROBE_MS), timeout: PROBE_MS })).close();
    return false;
  } catch (error) {
    return error instanceof ShrinkerError && error.code === "input";
  }
}

/** Waits for what tells more than "the stream broke", and rejects with it; else with the error itself. */
async function reasonOf(error: unknown, others: readonly Promise<unknown>[]): Promise<never> {
  const silence = new Promise<void>((resolve) => setTimeout(resolve, REASON_MS));
  const never = new Promise<never>(() => {});
  await Promise.race([silence, ...others.map((other) => other.then(() => never))]);
  throw error;
}

/** Carries the connections that QEMU makes; the signal breaks them. Rejects with what broke the first, else never settles. */
function carryFrom(
  listener: Listener,
  service: string,
  context: DepartureContext,
  signal: AbortSignal,
): Promise<never> {
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => {});
  const carry = (connection: Connection) => {
    signal.addEventListener("abort", () => void connection.destroy(abortReason(signal)), { once: true });
    context.entrance.carry(context.sender, connection, { service, format: "qemu" }).catch(broken.reject);
  };
  const accept = async () => {
    for (let next = await listener.accept(); next; next = await listener.accept()) carry(next);
  };
  accept().catch(broken.reject);
  return broken.promise;
}

/** Limits how long the guest stands still: from its stop until the destination has loaded it. */
function switchoverLimit({ name, machine }: Departing, ms: number) {
  const exceeded = Promise.withResolvers<never>();
  exceeded.promise.catch(() => {});
  let timer: ReturnType<typeof setTimeout> | undefined;
  const unlisten = machine.qmp.onEvent(({ event }) => {
    if (event !== "STOP") return;
    const message = `"${name}" stood still for ${ms / 1000} s without being loaded at the destination: see the link, or raise --switchover-timeout`;
    timer ??= setTimeout(() => exceeded.reject(new LinkError(message)), ms);
  });
  return {
    exceeded: exceeded.promise,
    stop() {
      unlisten();
      clearTimeout(timer);
    },
  };
}

/** Does what the user wants where copying takes too long; rejects where that is to give up. */
async function onTimeout(departing: Departing, { timeoutMs, onTimeout }: DepartureOptions, signal: AbortSignal) {
  const never = new Promise<never>(() => {});
  if (timeoutMs === undefined) return never;
  const late = await new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(true), timeoutMs);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve(false);
    });
  });
  if (!late) return never;
  if (onTimeout === "cancel") {
    const remedy = "allow more with --timeout, or see --on-timeout stop, --auto-converge and --downtime-limit";
    throw new ShrinkerError("timeout", `"${departing.name}" was not copied within ${timeoutMs / 1000} s: ${remedy}`);
  }
  // A guest that stands still dirties nothing, so what is left is copied in one go.
  await departing.machine.stopGuest();
  return never;
}
