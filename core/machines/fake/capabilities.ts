import { QmpError } from "./qmp-error.ts";

/** QEMU 10's, in its order. */
export const CAPABILITIES = [
  "xbzrle",
  "rdma-pin-all",
  "auto-converge",
  "zero-blocks",
  "events",
  "postcopy-ram",
  "x-colo",
  "release-ram",
  "return-path",
  "pause-before-switchover",
  "multifd",
  "dirty-bitmaps",
  "postcopy-blocktime",
  "late-block-activate",
  "x-ignore-shared",
  "validate-uuid",
  "background-snapshot",
  "zero-copy-send",
  "postcopy-preempt",
  "switchover-ack",
  "dirty-limit",
  "mapped-ram",
] as const;
export type Capability = (typeof CAPABILITIES)[number];

/** What a fake VM can do; `late-block-activate` has nothing to do there. */
const SUPPORTED: readonly Capability[] = ["events", "return-path", "pause-before-switchover", "late-block-activate"];

/** Why QEMU itself refuses some of the others on some hosts. */
const REASONS: Partial<Record<Capability, string>> = {
  "postcopy-ram": "Postcopy is not supported: Userfaultfd not available: Function not implemented",
  "background-snapshot": "Background-snapshot is not supported by host kernel",
};

export interface CapabilityState {
  readonly capability: Capability;
  readonly state: boolean;
}

/** Which capabilities are on. */
export class Capabilities {
  readonly #on = new Set<Capability>();

  has(capability: Capability): boolean {
    return this.#on.has(capability);
  }

  list(): CapabilityState[] {
    return CAPABILITIES.map((capability) => ({ state: this.#on.has(capability), capability }));
  }

  /** All or none of them. Throws a `QmpError` for one that this VM can't do. */
  set(states: readonly CapabilityState[]): void {
    for (const { capability, state } of states)
      if (state && !SUPPORTED.includes(capability))
        throw new QmpError(REASONS[capability] ?? `Capability '${capability}' is not supported by this VM`);
    for (const { capability, state } of states) {
      if (state) this.#on.add(capability);
      else this.#on.delete(capability);
    }
  }
}
