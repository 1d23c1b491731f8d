import type { MigrationStatus } from "../../machines/qemu/status.ts";
import type { Tell } from "../tell.ts";
import type { Timeout } from "./limits.ts";
import type { Mailbox } from "./mailbox.ts";
import type { StreamContext } from "./stream.ts";

/** The phases of a hand-over, as libvirt names them: what is here, who takes it, copying, the switch, and letting go. */
export type Phase = "begin" | "prepare" | "perform" | "finish" | "confirm";

export interface DepartureOptions extends Timeout {
  /** Bytes a second of the machine's stream, at most. */
  readonly bandwidth?: number | undefined;
  readonly downtimeLimitMs?: number | undefined;
  readonly autoConverge?: boolean | undefined;
  /** Milliseconds that the guest may stand still before it goes on at the source. */
  readonly switchoverTimeoutMs: number;
}

export interface DepartureContext extends StreamContext {
  readonly mailbox: Mailbox;
  readonly tell: Tell;
  /** Rejects when the session has failed. */
  readonly failed: Promise<never>;
  readonly options: DepartureOptions;
  readonly signal: AbortSignal;
  readonly onPhase: (phase: Phase) => void;
  /** All of the guest has been copied, and loaded there: from now on the link is free for another. */
  readonly onCopied: () => void;
  readonly onStatus: (status: MigrationStatus) => void;
  /** From now on the guest can't be taken back: it goes on by post-copy. */
  readonly onPostcopy: () => void;
}
