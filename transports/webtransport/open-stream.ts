import { abortReason } from "../../core/errors.ts";
import type { BidirectionalStream, ClientSession } from "./library.ts";

export interface Opening {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** Rejects where it can't come to anything. */
  readonly failed?: Promise<never>;
  /** Called once the session is open. */
  readonly onReady?: () => void;
}

/** The stream of a session that is being opened. Rejects with the signal's reason, too, and where it takes too long. */
export async function openStream(session: ClientSession, opening: Opening): Promise<BidirectionalStream> {
  const { signal, timeoutMs, failed, onReady } = opening;
  const given = Promise.withResolvers<never>();
  given.promise.catch(() => {});
  failed?.catch(given.reject);
  session.closed.catch(() => {});
  session.ready.catch(() => {});
  const onAbort = () => given.reject(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  const late = () => given.reject(Object.assign(new Error("it took too long"), { code: "ETIMEDOUT" }));
  const timer = setTimeout(late, timeoutMs);
  try {
    if (signal.aborted) onAbort();
    await Promise.race([session.ready, given.promise]);
    onReady?.();
    return await Promise.race([session.createBidirectionalStream(), given.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
