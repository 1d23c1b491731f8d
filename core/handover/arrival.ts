import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { asShrinkerError, told } from "../engine/told.ts";
import { fileError, ShrinkerError } from "../errors.ts";
import { compatible } from "../machines/qemu/compatible.ts";
import { describe } from "../machines/qemu/description.ts";
import { QemuDestination } from "../machines/qemu/destination.ts";
import type { QmpClient } from "../machines/qemu/qmp.ts";
import type { ArrivalState, Word, WordOf } from "../wire/handover.ts";
import { Journal } from "./journal.ts";

/** Says a word of a migration to the source, where that listens. */
export type Say = (word: Word) => Promise<void>;

/** A QEMU that waits for a guest. */
export interface WaitingMachine {
  readonly qmp: QmpClient;
  /** Of one that was started for this guest: it is ended with it. */
  readonly pid: number | undefined;
}

export interface ArrivalContext {
  readonly state: string;
  /** For sockets: a folder of this user's, whose path is short. */
  readonly sockets: string;
  /** Finds or starts the QEMU for a guest. Rejects with `refused` for one that is not expected. */
  readonly machine: (prepare: WordOf<"prepare">, signal: AbortSignal) => Promise<WaitingMachine>;
  readonly signal: AbortSignal;
  readonly onState: (arrival: Arrival) => void;
}

/**
 * A guest that arrives: loaded, but paused until the source has given it away. What it has decided is in its journal before the
 * source hears of it.
 */
export class Arrival {
  readonly migration: Uint8Array;
  readonly name: string;
  /** Why it went wrong, if it has. */
  error: ShrinkerError | undefined;
  readonly #context: ArrivalContext;
  /** Undefined where its QEMU had died before this process took it up. */
  readonly #machine: QemuDestination | undefined;
  readonly #journal: Journal;
  readonly #folder: string | undefined;
  readonly #watching = new AbortController();
  #state: ArrivalState | "running" | "ended";
  #say: Say | undefined;

  private constructor(
    context: ArrivalContext,
    machine: QemuDestination | undefined,
    journal: Journal,
    state: ArrivalState,
    folder: string | undefined,
  ) {
    this.#context = context;
    this.#machine = machine;
    this.#journal = journal;
    this.#state = state;
    this.#folder = folder;
    this.migration = journal.migration;
    this.name = journal.entry.name;
  }

  get state() {
    return this.#state;
  }

  /** Where QEMU waits for the guest's stream: `unix:PATH`. */
  get address(): string {
    return `unix:${join(this.#folder ?? "", "in")}`;
  }

  /** Gets ready for a guest. Rejects with why it can't come; nothing is left then. */
  static async prepare(word: WordOf<"prepare">, context: ArrivalContext, say: Say): Promise<Arrival> {
    const { qmp, pid } = await context.machine(word, context.signal);
    const machine = new QemuDestination(qmp);
    let journal: Journal | undefined;
    let folder: string | undefined;
    try {
      await check(word, qmp);
      folder = await socketFolder(context.sockets);
      journal = await Journal.create(context.state, {
        id: Buffer.from(word.migration).toString("hex"),
        ...{ role: "destination", phase: "prepared", name: word.name, qmp: qmp.path, runs: !word.paused },
        ...(pid !== undefined && { pid }),
      });
      const arrival = new Arrival(context, machine, journal, "prepared", folder);
      arrival.#say = say;
      await machine.prepare({ postcopy: word.postcopy });
      await machine.incoming(arrival.address);
      void arrival.#watch();
      return arrival;
    } catch (error) {
      if (pid === undefined) await qmp.close();
      else await machine.discard().catch(() => qmp.close());
      await journal?.remove();
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /**
   * Takes up what another process has left: a guest that is loaded, or was taken.
   * @param qmp undefined where its QEMU has died
   */
  static async resume(context: ArrivalContext, journal: Journal, qmp: QmpClient | undefined): Promise<Arrival> {
    const taken = journal.entry.phase === "taken";
    if (!taken && !qmp) await journal.update({ phase: "lost" });
    const state = taken ? "taken" : qmp ? "loaded" : "lost";
    const arrival = new Arrival(context, qmp && new QemuDestination(qmp), journal, state, undefined);
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
    if (this.#state === "prepared") await this.drop(new ShrinkerError("link", "The source has gone"));
  }

  /** GO: the source has given the guest away. Once more makes sure that it runs. */
  async take(): Promise<void> {
    if (this.#state !== "loaded" && this.#state !== "taken" && this.#state !== "running")
      throw new ShrinkerError("refused", `"${this.name}" is not loaded here: it is ${this.#state}`);
    if (!this.#machine) throw new ShrinkerError("input", `"${this.name}" was taken here, but its QEMU has ended since`);
    if (this.#state === "loaded") {
      await this.#journal.update({ phase: "taken" });
      this.#become("taken");
    }
    if (this.#journal.entry.runs) await this.#machine.run();
    this.#become("running");
  }

  /** The source keeps the guest: ends the QEMU that has a copy of it, or waits for one. Never of one that was taken. */
  async drop(error: ShrinkerError): Promise<void> {
    if (this.#state === "taken" || this.#state === "running" || this.#state === "ended") return;
    this.error = error;
    await this.#machine?.discard().catch(() => this.#machine?.qmp.close());
    await this.#end();
  }

  /** The source knows that the guest runs here, or needs to know no more. */
  async confirmed(): Promise<void> {
    if (this.#state !== "running") return;
    await this.#machine?.qmp.close();
    await this.#end();
  }

  /** This process ends; another takes up what has to be. */
  async leave(): Promise<void> {
    if (this.#state === "ended") return;
    if (this.#state === "prepared") return this.drop(new ShrinkerError("cancelled", "The receiver ends"));
    this.#watching.abort();
    await this.#machine?.qmp.close();
    await this.#journal.release();
  }

  async say(word: Word): Promise<void> {
    await this.#say?.(word).catch(() => {});
  }

  /** Tells when the guest is loaded, or that it never will be. */
  async #watch(): Promise<void> {
    const { migration } = this;
    const signal = AbortSignal.any([this.#context.signal, this.#watching.signal]);
    try {
      await this.#machine!.loaded(signal);
      await this.#journal.update({ phase: "loaded" });
    } catch (thrown) {
      if (this.#state === "ended" || signal.aborted) return;
      const error = asShrinkerError(thrown);
      await this.drop(error);
      return this.say({ type: "failed", migration, ...told(error) });
    }
    this.#become("loaded");
    await this.say({ type: "loaded", migration });
    await this.#watchLoaded();
  }

  /** A copy whose QEMU dies before it was taken is lost, and its source has to know: it may take the guest back. */
  async #watchLoaded(): Promise<void> {
    await this.#machine!.qmp.closed;
    if (this.#state !== "loaded" || this.#watching.signal.aborted) return;
    this.error = new ShrinkerError("input", `The QEMU that had loaded "${this.name}" has died`);
    await this.#journal.update({ phase: "lost" });
    this.#become("lost");
    await this.say({ type: "failed", migration: this.migration, ...told(this.error) });
  }

  async #end(): Promise<void> {
    this.#watching.abort();
    this.#become("ended");
    await this.#journal.remove();
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
  }

  #become(state: ArrivalState | "running" | "ended"): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#context.onState(this);
  }
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
  if (against.length > 0) throw new ShrinkerError("refused", `"${name}" can't go on here: ${against.join("; ")}`);
}
