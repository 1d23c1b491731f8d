import type { ShrinkerError } from "../../errors.ts";
import type { ArrivalState, DestinationWord, WordOf } from "../../wire/handover.ts";
import type { Journal } from "../journal.ts";
import { GuestQemu } from "./guest-qemu.ts";
import type { GuestSockets } from "./guest-sockets.ts";
import { lacksMemory } from "./lacks-memory.ts";
import type { WaitingMachine } from "./waiting-machine.ts";

/** Says a word of a migration to the source, where that listens. */
export type Say = (word: DestinationWord) => Promise<void>;

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

/** What an arrival begins with. */
export interface ArrivalParts {
  readonly journal: Journal;
  readonly state: State;
  /** Undefined where its QEMU had died before this process took it up, or nothing has to be asked of it. */
  readonly waiting: WaitingMachine | undefined;
  readonly sockets: GuestSockets;
  /** Whether QEMU was got ready for post-copy. */
  readonly postcopy: boolean;
}

/**
 * A guest that arrives: loaded, but paused until the source has given it away. What it has decided is in its journal before the
 * source hears of it. What changes its state happens one after the other: in the files of its phases (`prepare`, `load`, `take`,
 * `recover`, `end`, and `take-up` after another process).
 */
export class Arrival {
  readonly migration: Uint8Array;
  readonly name: string;
  /** The path of its QEMU's QMP socket. */
  readonly qmp: string;
  readonly context: ArrivalContext;
  readonly journal: Journal;
  readonly qemu: GuestQemu;
  readonly sockets: GuestSockets;
  /** Looks at the guest once it runs. */
  readonly check: WaitingMachine["check"];
  /** Aborted when this process looks no more at what becomes of it. */
  readonly watching = new AbortController();
  /** Why it went wrong, if it has. */
  error: ShrinkerError | undefined;
  /** Whether the guest is here, and was let run. */
  landed: boolean;
  readonly #postcopy: boolean;
  #turn: Promise<unknown> = Promise.resolve();
  #state: State;
  #say: Say | undefined;

  constructor(context: ArrivalContext, { journal, state, waiting, sockets, postcopy }: ArrivalParts) {
    this.context = context;
    this.journal = journal;
    this.qemu = new GuestQemu(journal, waiting);
    this.sockets = sockets;
    this.check = waiting?.check;
    this.landed = state === "running";
    this.#state = state;
    this.#postcopy = postcopy;
    this.migration = journal.migration;
    this.name = journal.entry.name;
    this.qmp = journal.entry.qmp;
  }

  get state() {
    return this.#state;
  }

  /** Whether the guest is to run here. */
  get runs(): boolean {
    return this.journal.entry.runs;
  }

  /** Where QEMU waits for the guest's stream, `unix:PATH`; undefined where it doesn't. */
  get address(): string | undefined {
    // With post-copy QEMU connects a second time once the guest is loaded.
    const waits = this.sockets.recovers || this.#state === "prepared" || this.#postcopy;
    return waits ? this.sockets.address : undefined;
  }

  /** Whether QEMU has begun with post-copy before this process knows that the guest is loaded. */
  async switches(): Promise<boolean> {
    return this.#postcopy && (await lacksMemory(this.qemu.machine!.qmp)) === true;
  }

  /** The source speaks through another session now. */
  meet(say: Say): void {
    this.#say = say;
  }

  /** A session has ended: whether it was the one through which the source speaks. */
  part(say: Say): boolean {
    if (this.#say !== say) return false;
    this.#say = undefined;
    return true;
  }

  /** Never rejects. */
  async say(word: DestinationWord): Promise<void> {
    await this.#say?.(word).catch(() => {});
  }

  /** Does something that depends on the state, or changes it, when what was begun before is done. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  become(state: State): void {
    if (this.#state === state) return;
    this.#state = state;
    this.context.onState(this);
  }
}
