import { abortReason } from "./errors.ts";

/** A signal that is never aborted. */
export const NEVER = new AbortController().signal;

/** Resolves with what a promise gives; rejects earlier when the signal is aborted, with its reason. What is under way goes on. */
export async function interruptible<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const stopped = Promise.withResolvers<never>();
  const stop = () => stopped.reject(abortReason(signal));
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await Promise.race([promise, stopped.promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
