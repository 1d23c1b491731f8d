import type { OutStream } from "./out-stream.ts";

/** What comes first is less: an urgent stream, then one behind the last that had its turn, then the others. */
const URGENT = 0;
const OTHER = 2;
const BEFORE_LAST = 1;

/** Whose turn it is: streams that have input have theirs one after the other, but those of urgent services before all others. */
export class Turns {
  /** Names of services. */
  readonly #urgent = new Set<string>();
  /** The id of the stream that had its turn last. */
  #last = 0;

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
   * @param streams in the order of their ids
   * @param idle whether no batch is on its way to the link: what is urgent must not find a queue of what is not
   */
  next(streams: Iterable<OutStream>, idle: boolean): OutStream | undefined {
    let first: OutStream | undefined;
    let best = this.hurried && !idle ? OTHER : Number.POSITIVE_INFINITY;
    for (const stream of streams) {
      const { service } = stream.info;
      const rank =
        (service !== undefined && this.#urgent.has(service) ? URGENT : OTHER) +
        (stream.id > this.#last ? 0 : BEFORE_LAST);
      if (rank < best && stream.ready) [first, best] = [stream, rank];
    }
    if (first) this.#last = first.id;
    return first;
  }
}
