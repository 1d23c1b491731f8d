import type { OutStream } from "./out-stream.ts";

/** Whose turn it is: streams that have input have theirs one after the other, but those of urgent services before all others. */
export class Turns {
  /** Names of services. */
  readonly #urgent = new Set<string>();
  /** The ids of the streams that had their turns last, of those that are urgent and of the others: neither changes the other's order. */
  readonly #last = { urgent: 0, other: 0 };

  /** Whether some service is urgent. */
  get hurried(): boolean {
    return this.#urgent.size > 0;
  }

  hurry(service: string): void {
    this.#urgent.add(service);
  }

  calm(service: string): void {
    this.#urgent.delete(service);
  }

  /**
   * The stream whose turn it is, of those that are ready; undefined where there is none.
   * @param streams by their ids, in that order
   * @param idle whether no batch is on its way to the link: what is urgent must not find a queue of what is not
   */
  next(streams: ReadonlyMap<number, OutStream>, idle: boolean): OutStream | undefined {
    if (!this.hurried) return this.#take(streams, "other");
    return this.#take(streams, "urgent") ?? (idle ? this.#take(streams, "other") : undefined);
  }

  /** Of one kind: the first ready one behind the last that had its turn, else the first of all. */
  #take(streams: ReadonlyMap<number, OutStream>, kind: "urgent" | "other"): OutStream | undefined {
    let first: OutStream | undefined;
    for (const stream of streams.values()) {
      if (this.#kindOf(stream) !== kind || !stream.ready) continue;
      first ??= stream;
      if (stream.id <= this.#last[kind]) continue;
      first = stream;
      break;
    }
    if (first) this.#last[kind] = first.id;
    return first;
  }

  #kindOf({ info: { service } }: OutStream): "urgent" | "other" {
    return service !== undefined && this.#urgent.has(service) ? "urgent" : "other";
  }
}
