import { QemuDestination } from "../../machines/qemu/destination.ts";
import type { QmpClient } from "../../machines/qemu/qmp.ts";

/** A QEMU that waits for a guest. */
export interface WaitingMachine {
  readonly qmp: QmpClient;
  /** Of one that was started for this guest: it is ended with it. */
  readonly pid?: number | undefined;
  /** Ends one that was started for this guest, by force. Never rejects. */
  readonly kill?: (() => Promise<void>) | undefined;
  /** What it has printed so far, its end, and how it ended; of one that was started for this guest. */
  readonly said?: (() => string) | undefined;
  readonly ended?: Promise<string> | undefined;
  /** Looks at the guest once it runs; rejects with what is wrong with it. */
  readonly check?: (() => Promise<void>) | undefined;
}

/** Ends a QEMU that waits for a guest, or has a copy of one; by force where it can't be told. Never rejects. */
export async function endMachine({ qmp, kill }: Pick<WaitingMachine, "qmp" | "kill">): Promise<void> {
  if (qmp.isClosed) await kill?.();
  else await new QemuDestination(qmp).discard().catch(() => kill?.());
  await qmp.close();
}
