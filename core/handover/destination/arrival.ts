import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { asShrinkerError, heard, told } from "../../engine/told.ts";
import { fileError, LinkError, ShrinkerError } from "../../errors.ts";
import { compatible } from "../../machines/qemu/compatible.ts";
import { describe } from "../../machines/qemu/description.ts";
import { QemuDestination } from "../../machines/qemu/destination.ts";
import { QmpClient, QmpError, QmpTimeout } from "../../machines/qemu/qmp.ts";
import { runState } from "../../machines/qemu/run-state.ts";
import { checkSocketPath, socketIdentity } from "../../machines/qemu/socket-path.ts";
import { migrationStatus } from "../../machines/qemu/status.ts";
import type { ArrivalState, DestinationWord, WordOf } from "../../wire/handover.ts";
import { Journal } from "../journal.ts";
import { reach } from "../reach.ts";

/** For a QEMU that may wait for a page of its guest to say how far it is. */
const STATUS_MS = 1000;

/** Says a word of a migration to the source, where that listens. */
export type Say = (word: DestinationWord) => Promise<void>;

/** A QEMU that waits for a guest. */
export interface WaitingMachine {
  readonly qmp: QmpClient;
  /** Of one that was started for this guest: it is ended with it. */
  readonly pid?: number | undefined;
  /** Ends one that was started for this guest, by force. Never rejects. */
  readonly kill?: (() => Promise<void>) | undefined;
  /** Looks at the guest once it runs; rejects with what is wrong with it. */
  readonly check?: (() => Promise<void>) | undefined;
}

export interface ArrivalContext {
  readonly state: string;
  /** For sockets: a folder of this user's, whose path is short. */
  readonly sockets: string;
  /** Finds or starts the QEMU for a guest. Rejects with `refused` for one that is not expected. */
  readonly machine: (prepare: WordOf<"prepare">, signal: AbortSignal) => Promise<WaitingMachine>;
  /**
   * Starts a process that outlives this one and is the client of a QEMU (`QmpKeeper`), until its migration has no journal any more;
   * resolves once it listens at the journal's `keeperPath`. Without, post-copy is lost with this process where QEMU waits for a page then.
   */
  readonly keep?: (qmp: string, journal: Journal) => Promise<void>;
  readonly signal: AbortSignal;
  readonly onState: (arrival: Arrival) => void;
  /** A guest can't be taken, and why. */
  readonly onRefused: (name: string, error: ShrinkerError) => void;
}

/** `running`: the guest is here, and was let run unless it is to stay paused; `ended`: there is nothing here any more to be told. */
type State = ArrivalState | "running" | "ended";

/**
 * A guest that arrives: loaded, but paused until the source has given it away. What it has decided is in its journal before the
 * source hears of it. What changes its state happens one after the other.
 */
export class Arrival {
  readonly migration: Uint8Array;
  readonly name: string;
  /** The path of its QEMU's QMP socket. */
  readonly qmp: string;
  /** Why it went wrong, if it has. */
  error: ShrinkerError | undefined;
  readonly #context: ArrivalContext;
  /** Undefined where its QEMU had died before this process took it up, or nothing has to be asked of it. */
  #machine: QemuDestination | undefined;
  #waiting: WaitingMachine | undefined;
  readonly #journal: Journal;
  #folder: string | undefined;
  /** Sockets at which it has waited again for the rest of a guest. */
  #recoveries = 0;
  readonly #watching = new AbortController();
  #turn: Promise<unknown> = Promise.resolve();
  #state: State;
  #landed = false;
  #postcopy = false;
  #say: Say | undefined;

  private constructor(
    context: ArrivalContext,
    machine: WaitingMachine | undefined,
    journal: Journal,
    state: State,
    folder: string | undefined,
  ) {
    this.#context = context;
    this.#waiting = machine;
    this.#machine = machine && new QemuDestination(machine.qmp);
    this.#journal = journal;
    this.#state = state;
    this.#folder = folder;
    this.migration = journal.migration;
    this.name = journal.entry.name;
    this.qmp = journal.entry.qmp;
  }

  get state() {
    return this.#state;
  }

  /** Whether the guest is here, and was let run. */
  get landed(): boolean {
    return this.#landed;
  }

  /** Whether the guest is to run here. */
  get runs(): boolean {
    return this.#journal.entry.runs;
  }

  /** Where QEMU waits for the guest's stream, `unix:PATH`; undefined where it doesn't. */
  get address(): string | undefined {
    if (this.#folder === undefined) return undefined;
    if (this.#recoveries > 0) return `unix:${join(this.#folder, `in-${this.#recoveries}`)}`;
    // With post-copy QEMU connects a second time once the guest is loaded.
    const waits = this.#state === "prepared" || this.#postcopy;
    return waits ? `unix:${join(this.#folder, "in")}` : undefined;
  }

  /** Gets ready for a guest. Rejects with why it can't come; nothing is left then. */
  static async prepare(
    word: WordOf<"prepare">,
    context: ArrivalContext,
    signal: AbortSignal,
    say: Say,
  ): Promise<Arrival> {
    let waiting = await context.machine(word, signal);
    const { qmp, pid } = waiting;
    let journal: Journal | undefined;
    let folder: string | undefined;
    try {
      await check(word, qmp);
      const socket = await socketIdentity(qmp.path);
      if (socket === undefined) throw new ShrinkerError("input", `The socket "${qmp.path}" is gone`);
      folder = await socketFolder(context.sockets);
      journal = await Journal.create(context.state, {
        id: Buffer.from(word.migration).toString("hex"),
        ...{ role: "destination", phase: "prepared", name: word.name, qmp: qmp.path, socket, runs: !word.paused },
        ...(pid !== undefined && { pid }),
      });
      const arrival = new Arrival(context, waiting, journal, "prepared", folder);
      arrival.#say = say;
      arrival.#postcopy = word.postcopy ?? false;
      const { major, minor } = word.machine.qemu;
      const preempt = major > 7 || (major === 7 && minor >= 1);
      await arrival.#machine!.prepare({ postcopy: word.postcopy, preempt }).catch((error) => {
        throw word.postcopy && error instanceof QmpError ? withoutPostcopy(error) : error;
      });
      if (word.postcopy) waiting = await arrival.#entrust(waiting, signal);
      await arrival.#machine!.incoming(arrival.address!);
      void arrival.#watch();
      return arrival;
    } catch (error) {
      // One that was not started for this guest may be anybody's, unless it listens for it already.
      if (waiting.kill) await end(waiting);
      else await waiting.qmp.close();
      await journal?.remove().catch(() => journal?.release());
      if (folder !== undefined) await rm(folder, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
  }

  /** From now on the connection to QEMU outlives this process. */
  async #entrust(waiting: WaitingMachine, signal: AbortSignal): Promise<WaitingMachine> {
    const { keep } = this.#context;
    if (!keep) return waiting;
    const keeper = this.#journal.keeperPath;
    try {
      checkSocketPath(keeper);
    } catch (cause) {
      const message = `Post-copy needs a socket beside the journal, and "${keeper}" is too long for one: give the receiver a shorter --state`;
      throw new ShrinkerError("refused", message, { cause });
    }
    await this.#journal.update({ keeper });
    // QEMU serves one at a time.
    await waiting.qmp.close();
    await keep(waiting.qmp.path, this.#journal);
    const qmp = await QmpClient.connect(keeper, { signal });
    this.#machine = new QemuDestination(qmp);
    this.#waiting = { ...waiting, qmp };
    return this.#waiting;
  }

  /** Connects once more to a QEMU whose connection has ended, as its keeper may have died. False where QEMU has, or can't be reached. */
  async #reconnect(): Promise<boolean> {
    if (this.#journal.entry.keeper === undefined) return false;
    const qmp = await reach(this.#journal.entry, this.#context.signal);
    if (qmp) this.#machine = new QemuDestination(qmp);
    return qmp !== undefined;
  }

  /**
   * Takes up what another process has left: a guest that is loaded, or was taken.
   * @param qmp undefined where its QEMU has died
   */
  static async resume(context: ArrivalContext, journal: Journal, qmp: QmpClient | undefined): Promise<Arrival> {
    const { phase, started } = journal.entry;
    if (phase === "loaded" && !qmp) await journal.update({ phase: "lost" });
    const state = phase === "taken" ? (started ? "running" : "taken") : phase === "loaded" && qmp ? "loaded" : "lost";
    const arrival = new Arrival(context, qmp && { qmp }, journal, state, undefined);
    arrival.#landed = state === "running";
    if (state === "loaded") void arrival.#watchLoaded();
    return arrival;
  }

  /** The source speaks through another session now. */
  meet(say: Say): void {
    this.#say = say;
  }

  /** The session has ended. What is not loaded yet never will be; what is, waits for the source's word. */
  async part(say: Say): Promise<void> {
    if (this.#say !== say) return;
    this.#say = undefined;
    await this.#inTurn(async () => {
      // One that has what it needs to go on waits for the rest.
      if (this.#state === "prepared" && !(await this.#switches()))
        await this.#drop(new ShrinkerError("link", "The source has gone"));
    });
  }

  /** GO: the source has given the guest away. Does nothing where it was let run before: it may be its owner who has stopped it. */
  take(): Promise<void> {
    return this.#inTurn(async () => {
      const { name } = this;
      if (this.#state === "running") return;
      if (this.#state !== "loaded" && this.#state !== "taken")
        throw new ShrinkerError("refused", `"${name}" is not loaded here: it is ${this.#state}`);
      if (!this.#machine || this.#machine.qmp.isClosed) {
        const qmp = await reach(this.#journal.entry);
        this.#machine = qmp && new QemuDestination(qmp);
      }
      if (!this.#machine) throw new ShrinkerError("input", `"${name}" was taken here, but its QEMU has ended since`);
      if (this.#state === "loaded") {
        // Of a QEMU that has just died it would be a lie; its source may take the guest back.
        await runState(this.#machine.qmp);
        await this.#journal.update({ phase: "taken" });
        this.#become("taken");
      }
      if (this.runs) await this.#machine.run();
      this.#landed = true;
      this.#become("running");
      // Not now: the source waits for the word. Without it a process that takes this up would let the guest run once more.
      void this.#inTurn(async () => {
        if (this.#state === "running") await this.#journal.update({ started: true }).catch(() => {});
        // While QEMU waits for a page of its guest nobody could connect to it.
        if (!this.#journal.entry.postcopy) await this.#machine?.qmp.close();
      });
    });
  }

  /** RECOVER: waits once more for what a guest lacks whose post-copy was interrupted, if it lacks something. */
  recover(): Promise<"prepared" | "whole"> {
    return this.#inTurn(async () => {
      const { name } = this;
      if (this.#state !== "loaded" && this.#state !== "taken" && this.#state !== "running")
        throw new ShrinkerError("refused", `"${name}" is not here: it is ${this.#state}`);
      const lacks = await this.#lacks();
      if (lacks === undefined)
        throw new ShrinkerError("input", `The QEMU of "${name}" has ended, and with it the guest`);
      if (!lacks) return "whole";
      this.#folder ??= await socketFolder(this.#context.sockets);
      this.#recoveries++;
      await this.#machine!.recover(this.address!, this.#context.signal);
      return "prepared";
    });
  }

  /** Whether it runs, or is to run, without all of its memory. */
  lacksMemory(): Promise<boolean> {
    return this.#inTurn(async () => {
      const here = this.#state === "loaded" || this.#state === "taken" || this.#state === "running";
      return here && this.#journal.entry.postcopy === true && (await this.#lacks()) === true;
    });
  }

  /** Undefined where its QEMU has ended. */
  async #lacks(): Promise<boolean | undefined> {
    if (this.#machine) {
      const lacks = await lacksMemory(this.#machine.qmp);
      if (lacks !== undefined) return lacks;
    }
    const qmp = await reach(this.#journal.entry);
    if (!qmp) return undefined;
    this.#machine = new QemuDestination(qmp);
    return lacksMemory(qmp);
  }

  /** Whether QEMU has begun with post-copy before this process knows that the guest is loaded. */
  async #switches(): Promise<boolean> {
    return this.#postcopy && (await lacksMemory(this.#machine!.qmp)) === true;
  }

  /** Has the guest looked at, once the source knows that it runs. Never rejects. */
  async verify(): Promise<void> {
    try {
      await this.#waiting?.check?.();
    } catch (thrown) {
      this.error = asShrinkerError(thrown);
    }
  }

  /** The source keeps the guest: ends the QEMU that has a copy of it, or waits for one. Never of one that was taken. */
  drop(error: ShrinkerError): Promise<void> {
    return this.#inTurn(() => this.#drop(error));
  }

  /** The source knows that the guest runs here, or needs to know no more. */
  confirmed(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === "running") await this.#end();
    });
  }

  /** This process ends; another takes up what has to be. */
  leave(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === "ended") return;
      if (this.#state === "prepared" && (await this.#switches()))
        await this.#journal.update({ phase: "loaded", postcopy: true });
      else if (this.#state === "prepared") return this.#drop(new ShrinkerError("cancelled", "The receiver ends"));
      this.#watching.abort();
      await this.#machine?.qmp.close();
      await this.#journal.release();
    });
  }

  async say(word: DestinationWord): Promise<void> {
    await this.#say?.(word).catch(() => {});
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  async #drop(error: ShrinkerError): Promise<void> {
    if (this.#state === "taken" || this.#state === "running" || this.#state === "ended") return;
    this.error = error;
    if (this.#waiting) await end(this.#waiting);
    await this.#end();
  }

  /** Tells when the guest is loaded, or that it never will be. Never rejects. */
  async #watch(): Promise<void> {
    const { migration } = this;
    const signal = AbortSignal.any([this.#context.signal, this.#watching.signal]);
    let word: DestinationWord | undefined;
    let postcopy = false;
    const loaded = async () => {
      try {
        postcopy = (await this.#machine!.loaded(signal)).status !== "completed";
        return undefined;
      } catch (error) {
        return asShrinkerError(error);
      }
    };
    let error = await loaded();
    if (error instanceof LinkError && this.#machine!.qmp.isClosed && (await this.#reconnect().catch(() => false)))
      error = await loaded();
    await this.#inTurn(async () => {
      if (this.#state !== "prepared" || signal.aborted) return;
      if (!error)
        await this.#journal.update({ phase: "loaded", postcopy }).catch((why) => {
          error = asShrinkerError(why);
        });
      if (error) await this.#drop(error);
      else this.#become("loaded");
      word = error ? { type: "failed", migration, ...told(error) } : { type: "loaded", migration };
    });
    if (word) await this.say(word);
    if (word?.type === "loaded") await this.#watchLoaded();
  }

  /** A copy whose QEMU dies before it was taken is lost, and its source has to know: it may take the guest back. Never rejects. */
  async #watchLoaded(): Promise<void> {
    await this.#machine!.qmp.closed;
    let error: ShrinkerError | undefined;
    let again = false;
    await this.#inTurn(async () => {
      if (this.#state !== "loaded" || this.#watching.signal.aborted) return;
      // Who can't be reached for another reason is not dead; then it is the next word that tells.
      if (!this.#machine?.qmp.isClosed || (await this.#reconnect().catch(() => true))) {
        again = this.#machine?.qmp.isClosed === false;
        return;
      }
      error = this.error = new ShrinkerError("input", `The QEMU that had loaded "${this.name}" has died`);
      // Whoever takes it up finds it dead, too.
      await this.#journal.update({ phase: "lost" }).catch(() => {});
      this.#become("lost");
    });
    if (error) await this.say({ type: "failed", migration: this.migration, ...told(error) });
    if (again) await this.#watchLoaded();
  }

  async #end(): Promise<void> {
    this.#watching.abort();
    // First: whoever keeps the connection to QEMU looks for it when this end is closed.
    await this.#journal.remove().catch(() => this.#journal.release());
    await this.#machine?.qmp.close();
    this.#become("ended");
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true }).catch(() => {});
  }

  #become(state: State): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#context.onState(this);
  }
}

/** Whether a guest has begun to go on by post-copy, and is not all there; undefined where QEMU can't be asked any more. */
export async function lacksMemory(qmp: QmpClient): Promise<boolean | undefined> {
  try {
    return (await migrationStatus(qmp, { timeout: STATUS_MS })).status.startsWith("postcopy");
  } catch (error) {
    // It waits for a page itself.
    return error instanceof QmpTimeout ? true : undefined;
  }
}

/** Ends a QEMU that waits for a guest, or has a copy of one. Never rejects. */
async function end({ qmp, kill }: WaitingMachine): Promise<void> {
  await new QemuDestination(qmp).discard().catch(() => kill?.());
  await qmp.close();
}

function withoutPostcopy(error: unknown): ShrinkerError {
  const { message } = asShrinkerError(error);
  const remedy =
    "post-copy needs userfaultfd: run QEMU as root, or set vm.unprivileged_userfaultfd=1 at the destination";
  return new ShrinkerError("refused", `${message}; ${remedy}`, { cause: error });
}

async function socketFolder(parent: string): Promise<string> {
  try {
    return await mkdtemp(join(parent, "in-"));
  } catch (error) {
    throw fileError("Cannot make a folder in", parent, error);
  }
}

/** Whether the QEMU here is one in which the guest can go on. */
async function check({ name, machine }: WordOf<"prepare">, qmp: QmpClient): Promise<void> {
  const here = await describe(qmp);
  const facts = { ...here, ...machine, cpuModel: machine.cpuModel };
  const against = compatible(facts, here);
  if (against.length > 0) throw heard("refused", `"${name}" can't go on here: ${against.join("; ")}`);
}
