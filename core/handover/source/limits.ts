import { setTimeout as sleep } from "node:timers/promises";
import { abortReason, LinkError, ShrinkerError } from "../../errors.ts";
import type { Departing } from "./begin.ts";

/**
 * How long copying may take, in milliseconds, and what to do then: give up, stop the guest until it is copied, or have it go on at
 * the destination before it is.
 */
export interface Timeout {
  readonly timeoutMs?: number | undefined;
  readonly onTimeout: "cancel" | "stop" | "postcopy";
}

export interface Limit {
  readonly exceeded: Promise<never>;
  /** The guest is going to be stopped for as long as it takes. */
  pardon(): void;
  stop(): void;
}

/** Limits how long the guest stands still: from its stop until the destination has loaded it. */
export function switchoverLimit({ name, machine }: Departing, ms: number): Limit {
  const exceeded = Promise.withResolvers<never>();
  exceeded.promise.catch(() => {});
  const message = `"${name}" stood still for ${ms / 1000} s without being loaded at the destination: see the link, or raise --switchover-timeout`;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let pardoned = false;
  const clear = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  const unlisten = machine.qmp.onEvent(({ event, data }) => {
    // Somebody else may stop the guest for a while.
    if (event === "RESUME") clear();
    // One that stood still anyway is not stopped for the last part, which QEMU calls `device`.
    const stands = (event === "STOP" && !pardoned) || (event === "MIGRATION" && data.status === "device");
    if (stands) timer ??= setTimeout(() => exceeded.reject(new LinkError(message)), ms);
  });
  return {
    exceeded: exceeded.promise,
    pardon() {
      pardoned = true;
    },
    stop() {
      unlisten();
      clear();
    },
  };
}

/**
 * Does what the user wants where copying takes too long; rejects where that is to give up.
 * @param toPostcopy has the guest go on at the destination
 */
export async function onTimeout(
  departing: Departing,
  { timeoutMs, onTimeout }: Timeout,
  signal: AbortSignal,
  limit: Limit,
  toPostcopy: () => Promise<void>,
): Promise<never> {
  const { name, machine } = departing;
  const never = new Promise<never>(() => {});
  if (timeoutMs === undefined) return never;
  const late = await sleep(timeoutMs, true, { signal }).catch(() => false);
  if (!late) return never;
  if (onTimeout === "cancel") {
    const remedy = "allow more with --timeout, or see --on-timeout, --auto-converge and --downtime-limit";
    throw new ShrinkerError("timeout", `"${name}" was not copied within ${timeoutMs / 1000} s: ${remedy}`);
  }
  if (onTimeout === "postcopy") {
    // It stands still only until the destination has what it needs to begin with, and can't be taken back anyway.
    limit.stop();
    await toPostcopy();
    return never;
  }
  // A guest that stands still dirties nothing, so what is left is copied in one go.
  limit.pardon();
  await machine.stopGuest();
  return never;
}

/** A signal that is aborted some time after another. */
export function later(signal: AbortSignal, ms: number) {
  const controller = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const begin = () => {
    timer ??= setTimeout(() => controller.abort(abortReason(signal)), ms);
  };
  signal.addEventListener("abort", begin);
  if (signal.aborted) begin();
  return {
    signal: controller.signal,
    stop() {
      signal.removeEventListener("abort", begin);
      clearTimeout(timer);
    },
  };
}
