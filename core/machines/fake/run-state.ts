import type { EventLog } from "./events.ts";
import type { Guest } from "./guest.ts";

/** QEMU's run states, as far as a fake VM has them. */
export type RunState = "prelaunch" | "inmigrate" | "running" | "paused" | "finish-migrate" | "postmigrate" | "shutdown";

/** Whether the guest runs, and why not. The guest runs in no other state than `running`. */
export class RunControl {
  readonly #guest: Guest;
  readonly #events: EventLog;
  #state: RunState;

  constructor(guest: Guest, events: EventLog, state: RunState) {
    this.#guest = guest;
    this.#events = events;
    this.#state = state;
  }

  get state(): RunState {
    return this.#state;
  }

  start(): void {
    if (this.#state === "running" || this.#state === "shutdown") return;
    this.#state = "running";
    this.#guest.start();
    this.#events.emit("RESUME");
  }

  /** Stops a guest that runs. One that doesn't stays in the state that it is in. */
  stop(state: "paused" | "finish-migrate"): void {
    if (this.#state !== "running") return;
    this.#guest.stop();
    this.#state = state;
    this.#events.emit("STOP");
  }

  /** Changes the state of a guest that does not run. */
  set(state: Exclude<RunState, "running">): void {
    if (this.#state === "shutdown") return;
    this.#guest.stop();
    this.#state = state;
  }
}
