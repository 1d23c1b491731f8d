import { asShrinkerError, heard, told } from "../../engine/told.ts";
import { ProtocolError, ShrinkerError } from "../../errors.ts";
import type { DialService } from "../../tunnel/exit.ts";
import {
  type DestinationWord,
  decodeSourceWord,
  encodeWord,
  machineService,
  migrationId,
  type SourceWord,
  type WordOf,
} from "../../wire/handover.ts";
import { listJournals } from "../journal.ts";
import type { Tell } from "../tell.ts";
import type { Arrival, ArrivalContext, Say } from "./arrival.ts";
import { confirmed, drop, leave, part } from "./end.ts";
import { prepare } from "./prepare.ts";
import { isIncomplete, recover } from "./recover.ts";
import { take, verify } from "./take.ts";
import { takeUp } from "./take-up.ts";

/** Words of a session that wait for earlier ones. */
const MAX_WAITING = 1024;
/** Guests that a session may bring, or be refused: what became of each is told at its end. */
const MAX_GUESTS = 4096;

/** What became of a guest in a session. */
export interface ArrivalFate {
  readonly name: string;
  readonly landed: boolean;
  readonly error?: ShrinkerError;
}

export interface ArrivalSession {
  /** Takes a TELL frame. Throws a `ProtocolError` for what is no word of a source, or too many. */
  told(payload: Buffer): void;
  /** Where connections for a guest go. */
  services(name: string): DialService | undefined;
  /** The session is over. Resolves with what became of the guests that it was about, once that is known; never rejects. */
  ended(): Promise<ArrivalFate[]>;
}

/** A guest that is being got ready for. */
interface Preparing {
  readonly name: string;
  readonly stop: AbortController;
}

/** The guests that arrive at a destination, over all of its sessions. */
export class Arrivals {
  readonly #context: ArrivalContext;
  readonly #connect: (address: string, signal: AbortSignal) => ReturnType<DialService>;
  /** By migration, as are those below. */
  readonly #arrivals = new Map<string, Arrival>();
  readonly #preparing = new Map<string, Preparing>();

  /** @param connect dials a local socket, `unix:PATH` */
  constructor(context: ArrivalContext, connect: (address: string, signal: AbortSignal) => ReturnType<DialService>) {
    this.#context = context;
    this.#connect = connect;
  }

  /**
   * Takes up what another process has left. Resolves with what it found, for people; rejects where it can't be told what has
   * become of a guest, as with a QEMU that serves somebody else.
   */
  async recover(): Promise<string[]> {
    const notes: string[] = [];
    for (const entry of await listJournals(this.#context.state)) {
      const found = entry.role === "destination" ? await takeUp(this.#context, entry) : undefined;
      if (!found) continue;
      if (found.arrival) this.#arrivals.set(entry.id, found.arrival);
      notes.push(found.note);
    }
    return notes;
  }

  /**
   * A session's end of all hand-overs: takes its words, those of a migration in order, and says where its connections go.
   * @param may whether its peer may bring a guest of this name
   */
  session(tell: Tell, may: (name: string) => boolean = () => true): ArrivalSession {
    const say: Say = (word) => tell(encodeWord(word));
    const handled = new Map<string, Promise<void>>();
    const fates = new Map<string, ArrivalFate>();
    const met = new Set<Arrival>();
    let waiting = 0;
    const handle = async (word: SourceWord) => {
      const error = await this.#handle(word, say, may);
      const arrival = this.#arrivals.get(migrationId(word.migration));
      if (arrival) met.add(arrival);
      if (error && word.type === "prepare") fates.set(word.name, { name: word.name, landed: false, error });
      this.#forgetEnded();
    };
    return {
      told: (payload) => {
        const word = decodeSourceWord(payload);
        const id = migrationId(word.migration);
        if (word.type === "prepare" && fates.size + met.size >= MAX_GUESTS)
          throw new ProtocolError(`The peer brings more than ${MAX_GUESTS} guests`);
        if (++waiting > MAX_WAITING) throw new ProtocolError("The peer says too much of migrations at once");
        if (word.type === "cancel") this.#preparing.get(id)?.stop.abort(heard(word.code, word.message));
        // Not one queue for all: a guest that stands still must not wait until there is a place for another one.
        const done = (handled.get(id) ?? Promise.resolve())
          .then(() => handle(word))
          .finally(() => {
            waiting--;
            if (handled.get(id) === done) handled.delete(id);
          });
        handled.set(id, done);
      },
      services: (name) => {
        const arrival = [...this.#arrivals.values()].find(({ migration }) => machineService(migration) === name);
        const address = arrival?.address;
        return address === undefined ? undefined : (signal) => this.#connect(address, signal);
      },
      ended: async () => {
        for (const id of handled.keys())
          this.#preparing.get(id)?.stop.abort(new ShrinkerError("link", "The source has gone"));
        await Promise.all(handled.values());
        await Promise.all([...this.#arrivals.values()].map((arrival) => part(arrival, say)));
        this.#forgetEnded();
        for (const arrival of met) fates.set(arrival.name, fateOf(arrival));
        return [...fates.values()];
      },
    };
  }

  /** Ends what has not arrived, and leaves what has. */
  async close(): Promise<void> {
    await Promise.all([...this.#arrivals.values()].map((arrival) => leave(arrival)));
  }

  /** Resolves with what was answered to be wrong; never rejects. */
  async #handle(word: SourceWord, say: Say, may: (name: string) => boolean): Promise<ShrinkerError | undefined> {
    const { migration } = word;
    const arrival = this.#arrivals.get(migrationId(migration));
    arrival?.meet(say);
    const answer = (reply: DestinationWord) => say(reply).catch(() => {});
    try {
      if (word.type === "prepare") {
        if (!may(word.name)) throw new ShrinkerError("refused", `You may not bring a guest "${word.name}" here`);
        await this.#prepare(word, say);
        await answer({ type: "prepared", migration });
      } else if (word.type === "cancel") {
        if (arrival) await drop(arrival, heard(word.code, word.message, "The source keeps it: "));
        // Of one that was taken it isn't true.
        if (!arrival || arrival.state === "ended") await answer({ type: "cancelled", migration });
      } else if (word.type === "settle") {
        const { state } = arrival ?? { state: "unknown" as const };
        const said = state === "running" ? "taken" : state === "ended" ? "unknown" : state;
        await answer({ type: "settled", migration, state: said });
      } else if (word.type === "go") {
        if (!arrival) throw new ShrinkerError("refused", "Nothing is known here of this migration");
        await take(arrival);
        await answer({ type: "running", migration });
        await verify(arrival);
      } else if (word.type === "recover") {
        if (!arrival) throw new ShrinkerError("refused", "Nothing is known here of this migration");
        await answer({ type: await recover(arrival), migration });
      } else if (arrival) await confirmed(arrival);
      return undefined;
    } catch (thrown) {
      const error = asShrinkerError(thrown);
      if (word.type === "prepare") this.#context.onRefused(word.name, error);
      await answer({ type: word.type === "prepare" ? "refused" : "failed", migration, ...told(error) });
      return error;
    }
  }

  async #prepare(word: WordOf<"prepare">, say: Say): Promise<void> {
    const { name, migration } = word;
    const id = migrationId(migration);
    if (this.#arrivals.has(id) || this.#preparing.has(id))
      throw new ShrinkerError("refused", "This migration has begun already");
    const others = [...this.#arrivals.values()].filter((arrival) => arrival.name === name);
    let busy: string | undefined = others.find(({ state }) => state !== "running" && state !== "ended")?.state;
    for (const other of others) if (await isIncomplete(other)) busy ??= "not over";
    if (busy !== undefined || [...this.#preparing.values()].some((other) => other.name === name)) {
      const message = `Another migration of "${name}" is ${busy ?? "being prepared"} here: see \`shrinker list --migrations\``;
      throw new ShrinkerError("refused", message);
    }
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#context.signal, stop.signal]);
    this.#preparing.set(id, { name, stop });
    try {
      this.#arrivals.set(id, await prepare(word, this.#context, signal, say));
    } finally {
      this.#preparing.delete(id);
    }
    // Whoever has the guest now knows that it had arrived here then.
    for (const other of others) await confirmed(other);
  }

  #forgetEnded(): void {
    for (const [id, { state }] of this.#arrivals) if (state === "ended") this.#arrivals.delete(id);
  }
}

function fateOf(arrival: Arrival): ArrivalFate {
  const { name, landed, error, state } = arrival;
  if (error) return { name, landed: false, error };
  if (landed) return { name, landed };
  const message = `"${name}" is ${state} here, and its source has not said more: start the receiver again, or see \`shrinker resolve ${name}\``;
  return { name, landed, error: new ShrinkerError("unsettled", message) };
}
