/** Strangers at a listener, at each of its steps: they must not make us hold more. */
export const MAX_STRANGERS = 64;

/**
 * Those who have come and not yet made themselves known. One too many drops the oldest: who means to make itself known takes
 * moments, and is not kept out by those who never do.
 */
export class Strangers<T> implements Iterable<T> {
  readonly #held = new Set<T>();
  readonly #drop: (stranger: T) => void;
  readonly #most: number;

  /** @param drop ends one that is held no more; it may call anything here */
  constructor(drop: (stranger: T) => void, most = MAX_STRANGERS) {
    this.#drop = drop;
    this.#most = most;
  }

  /** Of those who are not held yet. */
  add(stranger: T): void {
    this.#held.add(stranger);
    if (this.#held.size <= this.#most) return;
    const [oldest] = this.#held;
    this.drop(oldest!);
  }

  /** Drops one, unless it is held no more. */
  drop(stranger: T): void {
    if (this.#held.delete(stranger)) this.#drop(stranger);
  }

  /** Lets one go as it is. @returns whether it was held until now */
  release(stranger: T): boolean {
    return this.#held.delete(stranger);
  }

  /** Whoever is held, the oldest first. */
  [Symbol.iterator](): Iterator<T> {
    return this.#held.values();
  }
}
