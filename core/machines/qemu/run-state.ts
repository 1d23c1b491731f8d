import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { LinkError, ShrinkerError } from "../../errors.ts";
import { text } from "../../wire/map.ts";
import type { QmpClient } from "./qmp.ts";
import { ask } from "./reply.ts";

/** A migration that has ended leaves `finish-migrate` within a moment; a QEMU that was told to end is gone within seconds. */
const SETTLE_MS = 10_000;
const POLL_MS = 20;

const schema = v.object({ status: text(64), running: v.boolean() });

export interface RunState {
  /** QEMU's word: `running`, `paused`, `prelaunch`, `inmigrate`, `finish-migrate`, `postmigrate`, `suspended`, ... */
  readonly status: string;
  /** Whether the guest's processors run. */
  readonly running: boolean;
}

export const runState = (qmp: QmpClient): Promise<RunState> => ask(qmp, schema, "query-status");

/** Whether a guest does what its owner expects: one that sleeps counts, it wakes by itself. */
export const isLive = ({ status, running }: RunState): boolean => running || status === "suspended";

/** Lets the guest run, and makes sure that it does. Rejects with `input` where QEMU can't. */
export async function resumeGuest(qmp: QmpClient): Promise<void> {
  let state = await runState(qmp);
  // Until QEMU has put a migration's remains away it refuses.
  for (const until = performance.now() + SETTLE_MS; state.status === "finish-migrate"; state = await runState(qmp)) {
    if (performance.now() > until) throw notRunning(qmp, state);
    await sleep(POLL_MS);
  }
  if (isLive(state)) return;
  await qmp.execute("cont");
  state = await runState(qmp);
  if (!isLive(state)) throw notRunning(qmp, state);
}

/** Stops the guest's processors, and makes sure that they stand. */
export async function stopGuest(qmp: QmpClient): Promise<void> {
  await qmp.execute("stop");
  const { status, running } = await runState(qmp);
  if (running) throw new ShrinkerError("input", `QEMU at "${qmp.path}" does not stop its guest: it is ${status}`);
}

/** Ends QEMU, and with it its guest; resolves once its QMP socket is closed. */
export async function quitQemu(qmp: QmpClient): Promise<void> {
  const timer = new AbortController();
  // QEMU may close the socket before its reply is out.
  const told = qmp.execute("quit").catch((error) => {
    if (!(error instanceof LinkError)) throw error;
  });
  try {
    await told;
    const late = sleep(SETTLE_MS, true, { signal: timer.signal }).catch(() => false);
    if (await Promise.race([qmp.closed.then(() => false), late]))
      throw new LinkError(
        `QEMU at "${qmp.path}" has not ended within ${SETTLE_MS / 1000} s of "quit"; end its process`,
      );
  } finally {
    timer.abort();
  }
}

function notRunning(qmp: QmpClient, { status }: RunState): ShrinkerError {
  return new ShrinkerError(
    "input",
    `QEMU at "${qmp.path}" does not run its guest: it is ${status}; look at its monitor`,
  );
}
