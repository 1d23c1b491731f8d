/** A VM under a row of a table, whatever runs it: it tells when its guest ran. */
import type { End, GuestRow } from "./row.ts";

/** The guest went on, or stood still, at its sequence number if that is known; `at` in milliseconds since 1970. */
export interface RunChange {
  readonly runs: boolean;
  readonly at: number;
  readonly sequence?: number | undefined;
}

export interface LiveVm extends AsyncDisposable {
  readonly guest: string;
  readonly end: End;
  /** Path of the QMP socket that the tool uses. */
  readonly qmp: string;
  /** Since it was started, in order; that it has ended counts. */
  changes(): RunChange[];
  readonly running: boolean;
  readonly ended: boolean;
  /** Resolves once the guest is stopped here, or has come in. */
  stopped(): Promise<void>;
  arrived(): Promise<void>;
  /** Resolves once the VM has ended. */
  gone(): Promise<void>;
  /** By SIGKILL. */
  kill(): Promise<void>;
  /** Has the VM read memory that its guest lacks; resolves once it waits for that, rejects where it does not. */
  stall(): Promise<void>;
  /** What is wrong with the memory, as far as it was looked at: empty where nothing is; undefined where it was not. */
  wrong(): string[] | undefined;
  said(): string;
}

/** Makes the VMs of rows. */
export interface Machines {
  /** @param folder the row's own, for sockets and logs */
  start(guest: GuestRow, end: End, folder: string): Promise<LiveVm>;
  /** The command for `launch:`, and the VMs that it has started so far. */
  launcher(guest: GuestRow, folder: string): { readonly command: string; readonly vms: () => LiveVm[] };
  /** Looks at a guest's whole history over the VMs that had it, in the order of their start; returns what is wrong. */
  history(vms: readonly LiveVm[], row: { readonly corrupt?: boolean | undefined }): Promise<string[]>;
}
