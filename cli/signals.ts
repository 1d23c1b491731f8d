import { constants } from "node:os";
import { CancelledError } from "../core/errors.ts";

/** The user's wish to stop. */
export interface Interrupt {
  readonly signal: AbortSignal;
  /** 128 and the signal's number, once one has come. */
  readonly code: number | undefined;
}

/** SIGHUP too: a terminal that is closed must not leave unfinished files behind. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The first signal cancels what is going on, in order; the second ends the process at once. */
export function watchSignals(): Interrupt {
  const controller = new AbortController();
  const interrupt = { signal: controller.signal, code: undefined as number | undefined };
  for (const name of SIGNALS) {
    process.on(name, () => {
      const code = 128 + constants.signals[name];
      if (interrupt.code !== undefined) process.exit(code);
      interrupt.code = code;
      controller.abort(new CancelledError(`Interrupted by ${name}`));
    });
  }
  return interrupt;
}
