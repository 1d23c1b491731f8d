import { heard } from "../../engine/told.ts";
import { abortReason, ProtocolError, type ShrinkerError } from "../../errors.ts";
import {
  type DestinationWord,
  decodeDestinationWord,
  encodeWord,
  migrationId,
  type SourceWord,
  type WordOf,
} from "../../wire/handover.ts";
import type { Tell } from "../tell.ts";
import { WAITS, type Waits } from "./waits.ts";

/** Words of one migration that nobody has asked for yet. */
const MAX_WAITING = 16;

/** What the destination says, by migration. The source's end of all hand-overs of a session. */
export class Mailbox {
  readonly #talks = new Map<string, Talk>();
  readonly #waits: Waits;

  /** @param waits those that are not to be as usual */
  constructor(waits: Partial<Waits> = {}) {
    this.#waits = { ...WAITS, ...waits };
  }

  /** Takes a TELL frame. Throws a `ProtocolError` for what a destination has no reason to say. */
  take(payload: Buffer): void {
    const word = decodeDestinationWord(payload);
    // One that has ended here may still be spoken of.
    this.#talks.get(migrationId(word.migration))?.take(word);
  }

  open(migration: Uint8Array, tell: Tell): Talk {
    const talk = new Talk(migration, tell, this.#waits);
    this.#talks.set(migrationId(migration), talk);
    return talk;
  }

  close({ migration }: Talk): void {
    this.#talks.delete(migrationId(migration));
  }
}

export interface Waiting {
  readonly signal: AbortSignal;
  /** Milliseconds; then it rejects with `late()`. */
  readonly timeout?: number;
  readonly late?: () => ShrinkerError;
  /** Passes over other words: what was said before the destination heard of this. */
  readonly skip?: boolean;
}

/** What an answer is waited for. */
export interface Asking extends Waiting {
  /** Rejects when the session has failed. */
  readonly failed?: Promise<never>;
}

type Saying = SourceWord extends infer W ? (W extends SourceWord ? Omit<W, "migration"> : never) : never;

/** What both ends say of one migration. */
export class Talk {
  readonly migration: Uint8Array;
  readonly waits: Waits;
  readonly #tell: Tell;
  readonly #words: DestinationWord[] = [];
  #wake: (() => void) | undefined;

  constructor(migration: Uint8Array, tell: Tell, waits: Waits) {
    this.migration = migration;
    this.waits = waits;
    this.#tell = tell;
  }

  /** Resolves when the word is on its way; rejects where the session has failed. During an outage it waits. */
  say(word: Saying): Promise<void> {
    return this.#tell(encodeWord({ ...word, migration: this.migration } as SourceWord));
  }

  /** Says a word, and resolves with the answer; rejects as `hear`, and where it can't be said or the session has failed. */
  ask<T extends DestinationWord["type"]>(word: Saying, answers: readonly T[], asking: Asking): Promise<WordOf<T>> {
    const said = this.say(word).then(() => new Promise<never>(() => {}));
    const { failed = said } = asking;
    return Promise.race([this.hear(answers, asking), said, failed]);
  }

  take(word: DestinationWord): void {
    if (this.#words.length >= MAX_WAITING) throw new ProtocolError("The peer says too much of a migration at once");
    this.#words.push(word);
    this.#wake?.();
  }

  /** Throws what the destination has said is wrong, where nobody has heard it yet. */
  check(): void {
    for (const word of this.#words) throwWrong(word);
  }

  /** The next word, which has to be one of `types`. Rejects with what the destination says is wrong, and as `waiting` says. */
  async hear<T extends DestinationWord["type"]>(types: readonly T[], waiting: Waiting): Promise<WordOf<T>> {
    for (;;) {
      const word = await this.#next(waiting);
      if (types.some((type) => type === word.type)) return word as WordOf<T>;
      if (waiting.skip) continue;
      throwWrong(word);
      throw new ProtocolError(`The destination says "${word.type}" where "${types.join('" or "')}" is due`);
    }
  }

  async #next({ signal, timeout, late }: Waiting): Promise<DestinationWord> {
    const stopped = Promise.withResolvers<never>();
    stopped.promise.catch(() => {});
    const onAbort = () => stopped.reject(abortReason(signal));
    const timer = timeout === undefined ? undefined : setTimeout(() => stopped.reject(late?.()), timeout);
    signal.addEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
    try {
      for (;;) {
        const word = this.#words.shift();
        if (word) return word;
        const woken = new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        await Promise.race([woken, stopped.promise]);
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }
}

function throwWrong(word: DestinationWord): void {
  if (word.type === "refused" || word.type === "failed") throw heard(word.code, word.message, "The destination says: ");
}
