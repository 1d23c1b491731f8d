/** What a row of a table of live migrations says: how it is started, what happens to it, and what must result. */
import type { Passing, Rule } from "../handover-relay.ts";

export type End = "source" | "destination";
/** A process of a row: the tool at either end, or the VM there. */
export type Part = "migrate" | "receive" | End;

export interface GuestRow {
  readonly name: string;
  /** What the machine at either end is started with: of a fake, options of the command without their dashes. */
  readonly source?: Readonly<Record<string, string>>;
  readonly destination?: Readonly<Record<string, string>>;
  /** Whether it does not run at the source. */
  readonly paused?: boolean;
}

/** One thing that is done, or waited for. */
export type Step =
  /** Waits until the relay has acted on a word. */
  | { readonly at: Passing }
  /** Waits until `migrate` is in a phase of the hand-over, is copying (`round`), or has stopped the guest. */
  | { readonly phase: "prepare" | "perform" | "finish" | "confirm" }
  | { readonly round: number }
  /** Waits until the source's VM has stopped the guest, or it has come in at the destination, or the VM has ended there. */
  | { readonly guest: "stopped" | "arrived" }
  | { readonly gone: End }
  /** Waits for an event of a tool's, by its type or some more of it. */
  | { readonly event: Readonly<Record<string, unknown>>; readonly of: "migrate" | "receive" }
  | { readonly sleep: number }
  | { readonly kill: Part }
  | { readonly signal: NodeJS.Signals; readonly to: "migrate" | "receive" }
  /** `cut` once; `down` breaks it and lets none be made until `up`; `silent` until `heard`. */
  | { readonly link: "cut" | "down" | "up" | "silent" | "heard" }
  /** The relay lets go of what it holds, or begins with the rules that are `armed`. */
  | { readonly relay: "release" | "arm" }
  /** `migrate` ends with this code. */
  | { readonly ends: number | readonly number[] }
  /** Another VM, or another receiver, in the place of one that is gone. */
  | { readonly start: "receive" | "destination" }
  /** Another run of `migrate`, with these options instead of the row's, ends with this code. */
  | { readonly again: number; readonly with?: readonly string[] }
  | { readonly resolve: End; readonly as: End; readonly code?: number }
  /** Has a QEMU wait for a page of its guest that is not there, as a device would that reads the guest's memory. */
  | { readonly stall: End }
  /** By QMP, as somebody else who has the monitor. */
  | { readonly qmp: string; readonly to: End }
  /** Until the only journal of an end is in a phase. */
  | { readonly journal: string; readonly of: End }
  /** Which of the ends has the guest running, within a moment. */
  | { readonly runs: End | "nobody" };

export interface Row {
  readonly name: string;
  /** One fake called `web`, unless said otherwise. */
  readonly guests?: readonly GuestRow[];
  /** How the destination gets its VM: it waits (`qmp`), it is started (`launch`), or is one of the receiver's own (`fake`). */
  readonly place?: "qmp" | "launch" | "fake";
  /** Whether the source's VM is one of the tool's own, `fake:`. */
  readonly fromFake?: boolean;
  /** More options. */
  readonly migrate?: readonly string[];
  readonly receive?: readonly string[];
  readonly relay?: readonly Rule[];
  /** Of the link, in milliseconds each way. */
  readonly latency?: number;
  /** In order, with `migrate` under way; it simply ends with 0 unless said otherwise. */
  readonly steps?: readonly Step[];
  /** Where the guests run in the end: at the destination unless said otherwise. */
  readonly where?: End | "nobody";
  /** Whether they are paused there. */
  readonly paused?: boolean;
  /** Whether the source's VM is still there though its guest has gone. */
  readonly keepsSource?: boolean;
  /** Phases of journals that are left, and whether folders of sockets may be: a tool that is killed leaves its own. */
  readonly left?: {
    readonly source?: readonly string[];
    readonly destination?: readonly string[];
    readonly sockets?: boolean;
  };
  /** What the last run of `migrate` says besides. */
  readonly summary?: Readonly<Record<string, unknown>>;
  /** Whether the guest's memory is expected to be wrong. */
  readonly corrupt?: boolean;
  /** What has to be true of the bytes that crossed, of all runs together. */
  readonly wire?: (bytes: number) => boolean;
  /** Whether it belongs to every run of the tests, and not only to `npm run e2e`. */
  readonly often?: boolean;
  /** Why it does not work yet. */
  readonly todo?: string;
}
