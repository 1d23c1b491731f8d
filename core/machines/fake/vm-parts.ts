import type { ShrinkerError } from "../../errors.ts";
import type { Capabilities } from "./capabilities.ts";
import type { EventLog } from "./events.ts";
import type { FaultPlan } from "./faults.ts";
import type { Guest } from "./guest.ts";
import type { MigrationRecord } from "./migration-record.ts";
import type { Parameters } from "./parameters.ts";
import type { RunControl } from "./run-state.ts";
import type { FakeSpec } from "./spec.ts";

/** The machine's type, in the stream and, with `-machine` behind it, in QOM. */
export const MACHINE_TYPE = "fake-10.0";

/** What the parts of a fake VM share. */
export interface VmParts {
  readonly spec: FakeSpec;
  readonly guest: Guest;
  readonly run: RunControl;
  readonly events: EventLog;
  readonly capabilities: Capabilities;
  readonly parameters: Parameters;
  readonly faults: FaultPlan;
  readonly migration: MigrationRecord;
  /** Whether an incoming guest that ran goes on by itself: not after `-S` or a `stop` while it came in. */
  autostart: boolean;
  /** Aborted once the VM has ended, however it did. */
  readonly ended: AbortSignal;
  /** Ends the VM as if its process were killed. */
  die(): void;
  /** Ends the VM as QEMU does when it can't load a guest. */
  fail(error: ShrinkerError): void;
  /** Tells what QEMU would print on stderr. */
  log(line: string): void;
}
