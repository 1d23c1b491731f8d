/** An event as QMP tells it. */
export interface FakeEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
  /** Since 1970. */
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

/** How many are kept to be looked at. */
const KEPT = 1000;

/** What has happened, and whom it is told. */
export class EventLog {
  readonly #events: FakeEvent[] = [];
  readonly #listeners = new Set<(event: FakeEvent) => void>();

  /** The last 1000, oldest first. */
  get list(): readonly FakeEvent[] {
    return this.#events;
  }

  emit(name: string, data?: Readonly<Record<string, unknown>>): void {
    const now = Math.floor((performance.timeOrigin + performance.now()) * 1000);
    const timestamp = { seconds: Math.floor(now / 1e6), microseconds: now % 1e6 };
    const event = { timestamp, event: name, ...(data && { data }) };
    this.#events.push(event);
    if (this.#events.length > KEPT) this.#events.shift();
    for (const listener of this.#listeners) listener(event);
  }

  /** Returns what ends the listening. */
  listen(listener: (event: FakeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
