import { asShrinkerError, told } from "../engine/told.ts";
import { ShrinkerError } from "../errors.ts";
import { QmpClient } from "../machines/qemu/qmp.ts";
import { quitQemu } from "../machines/qemu/run-state.ts";
import type { DialService } from "../tunnel/exit.ts";
import { decodeWord, encodeWord, machineService, type Word } from "../wire/handover.ts";
import { Arrival, type ArrivalContext, type Say } from "./arrival.ts";
import { Journal, type JournalEntry, listJournals } from "./journal.ts";
import type { Tell } from "./mailbox.ts";

/** To reach a QEMU that another process has left. */
const PROBE_MS = 2000;
const key = (migration: Uint8Array) => Buffer.from(migration).toString("hex");

/** The guests that arrive at a destination, over all of its sessions. */
export class Arrivals {
  readonly #context: ArrivalContext;
  readonly #connect: (address: string, signal: AbortSignal) => ReturnType<DialService>;
  readonly #arrivals = new Map<string, Arrival>();
  /** Names of guests that are being prepared. */
  readonly #preparing = new Set<string>();

  /** @param connect dials a local socket, `unix:PATH` */
  constructor(context: ArrivalContext, connect: (address: string, signal: AbortSignal) => ReturnType<DialService>) {
    this.#context = context;
    this.#connect = connect;
  }

  /** Takes up what another process has left. Resolves with what it found, for people. */
  async recover(): Promise<string[]> {
    const notes: string[] = [];
    for (const entry of await listJournals(this.#context.state)) {
      if (entry.role === "destination") notes.push(await this.#recoverOne(entry));
    }
    return notes.filter((note) => note !== "");
  }

  /** A session's end of all hand-overs: takes its words, in order, and says where its connections go. */
  session(tell: Tell): ArrivalSession {
    const say: Say = (word) => tell(encodeWord(word));
    let handled: Promise<void> = Promise.resolve();
    return {
      told: (payload) => {
        const word = decodeWord(payload);
        handled = handled.then(() => this.#handle(word, say));
      },
      services: (name) => {
        const arrival = [...this.#arrivals.values()].find(({ migration }) => machineService(migration) === name);
        return arrival && ((signal) => this.#connect(arrival.address, signal));
      },
      ended: async () => {
        await handled;
        await Promise.all([...this.#arrivals.values()].map((arrival) => arrival.part(say)));
        this.#forgetEnded();
      },
    };
  }

  /** Ends what has not arrived, and leaves what has. */
  async close(): Promise<void> {
    await Promise.all([...this.#arrivals.values()].map((arrival) => arrival.leave()));
  }

  async #handle(word: Word, say: Say): Promise<void> {
    const { migration } = word;
    const arrival = this.#arrivals.get(key(migration));
    arrival?.meet(say);
    const answer = (reply: Word) => say(reply).catch(() => {});
    try {
      if (word.type === "prepare") {
        await this.#prepare(word, say);
        await answer({ type: "prepared", migration });
      } else if (word.type === "cancel") {
        await arrival?.drop(new ShrinkerError(word.code, `The source keeps it: ${word.message}`));
        // Of one that was taken it isn't true.
        if (!arrival || arrival.state === "ended") await answer({ type: "cancelled", migration });
      } else if (word.type === "settle") {
        const { state } = arrival ?? { state: "unknown" as const };
        const said = state === "running" ? "taken" : state === "ended" ? "unknown" : state;
        await answer({ type: "settled", migration, state: said });
      } else if (word.type === "go") {
        if (!arrival) throw new ShrinkerError("refused", "Nothing is known here of this migration");
        await arrival.take();
        await answer({ type: "running", migration });
      } else if (word.type === "confirm") await arrival?.confirmed();
    } catch (error) {
      const type = word.type === "prepare" ? "refused" : "failed";
      await answer({ type, migration, ...told(asShrinkerError(error)) });
    }
    this.#forgetEnded();
  }

  async #prepare(word: Extract<Word, { type: "prepare" }>, say: Say): Promise<void> {
    const { name, migration } = word;
    const other = [...this.#arrivals.values()].find((arrival) => arrival.name === name);
    // Whoever has the guest now knows that it had arrived here then.
    if (other?.state === "running") {
      await other.confirmed();
      this.#forgetEnded();
    } else if (other || this.#preparing.has(name)) {
      const state = other?.state ?? "being prepared";
      throw new ShrinkerError(
        "refused",
        `Another migration of "${name}" is ${state} here: see \`shrinker list --migrations\``,
      );
    }
    if (this.#arrivals.has(key(migration))) throw new ShrinkerError("refused", "This migration has begun already");
    this.#preparing.add(name);
    try {
      this.#arrivals.set(key(migration), await Arrival.prepare(word, this.#context, say));
    } finally {
      this.#preparing.delete(name);
    }
  }

  async #recoverOne({ id, name, phase, qmp: path, runs }: JournalEntry): Promise<string> {
    const journal = await Journal.resume(this.#context.state, { role: "destination", id });
    if (!journal) return "";
    const signal = AbortSignal.any([this.#context.signal, AbortSignal.timeout(PROBE_MS)]);
    const qmp = await QmpClient.connect(path, { signal }).catch(() => undefined);
    if (phase === "prepared") {
      await (qmp && quitQemu(qmp).catch(() => qmp.close()));
      await journal.remove();
      return `"${name}" had not arrived yet: ended what waited for it`;
    }
    const arrival = await Arrival.resume(this.#context, journal, qmp);
    this.#arrivals.set(id, arrival);
    if (arrival.state === "lost")
      return `"${name}" was loaded here, but its QEMU has died: its source may take it back`;
    if (arrival.state === "loaded") return `"${name}" is loaded here, and waits for the source's word`;
    if (!qmp) return `"${name}" was taken here, but its QEMU has ended since: see \`shrinker resolve\``;
    await arrival.take();
    return `"${name}" was taken, and ${runs ? "runs" : "stays paused"} here`;
  }

  #forgetEnded(): void {
    for (const [id, { state }] of this.#arrivals) if (state === "ended") this.#arrivals.delete(id);
  }
}

export interface ArrivalSession {
  /** Takes a TELL frame. Throws a `ProtocolError` for what is none. */
  told(payload: Buffer): void;
  /** Where connections for a guest go. */
  services(name: string): DialService | undefined;
  /** The session is over. Never rejects. */
  ended(): Promise<void>;
}
