import { PAGE_SIZE } from "../../content/page.ts";
import { type GuestShape, guestShape, versionAfter } from "./layout.ts";
import { GuestMemory } from "./memory.ts";
import type { FakeSpec } from "./spec.ts";
import type { GuestState } from "./state.ts";

/** How often the guest does something, in milliseconds. */
export const TICK_MS = 20;

/** Ticks that are made up for at once; a guest whose process was held up longer has stood still meanwhile. */
const MOST_TICKS = 5;

/**
 * What runs in a fake VM: every 20 ms its sequence number goes up and it writes to some pages, in turn. So all of its memory
 * follows from its spec and the sequence number.
 */
export class Guest {
  readonly memory: GuestMemory;
  #shape: GuestShape;
  #workload: Pick<FakeSpec, "dirty"> & Omit<GuestState, "sequence" | "runState">;
  #sequence = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param blank whether its memory and state are to come by a migration */
  constructor(spec: FakeSpec, blank: boolean) {
    this.#workload = spec;
    this.#shape = guestShape(spec);
    this.memory = new GuestMemory(this.#shape, blank);
  }

  get sequence(): number {
    return this.#sequence;
  }

  start(): void {
    if (this.#timer !== undefined) return;
    let due = performance.now() + TICK_MS;
    this.#timer = setInterval(() => {
      const now = performance.now();
      for (let ticks = 0; due <= now && ticks < MOST_TICKS; ticks++) {
        this.#tick();
        due += TICK_MS;
      }
      if (due <= now) due = now + TICK_MS;
    }, TICK_MS / 2);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Compares all of its memory with what it should be. Takes about a second a GiB of what is not zeros. */
  check(): { pages: number; wrong: number } {
    const writes = this.#writesAt(this.#sequence);
    return this.memory.check((page) => versionAfter(this.#shape, writes, page));
  }

  /** A byte that it will not write over is no longer what it was. */
  damage(): void {
    this.memory.damage(this.victim);
  }

  /** The page that faults change: the guest never writes to it. */
  get victim(): number {
    return this.#shape.biosStart;
  }

  /** What a destination needs to go on; while it doesn't run. */
  state(runState: GuestState["runState"]): GuestState {
    const { memory, dirty, pattern, base, private: own, zero, workingSet, seed } = this.#workload;
    const sequence = this.#sequence;
    return { memory, dirty, pattern, base, private: own, zero, workingSet, seed, sequence, runState };
  }

  /** Becomes the guest whose memory has come in. */
  restore(state: GuestState): void {
    this.#workload = state;
    this.#shape = guestShape(state);
    this.memory.shape = this.#shape;
    this.#sequence = state.sequence;
  }

  #tick(): void {
    const { workingSet } = this.#shape;
    let writes = this.#writesAt(this.#sequence);
    this.#sequence++;
    const end = this.#writesAt(this.#sequence);
    for (; writes < end; writes++) this.memory.rewrite(writes % workingSet, Math.floor(writes / workingSet) + 1);
  }

  /** Pages written until this sequence number. */
  #writesAt(sequence: number): number {
    if (this.#shape.workingSet === 0) return 0;
    return Math.floor(sequence * ((this.#workload.dirty * TICK_MS) / 1000 / PAGE_SIZE));
  }
}
