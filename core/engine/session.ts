import { abortReason } from "../errors.ts";
import type { Link } from "./link.ts";
import type { LinkTimes } from "./link-times.ts";

/** What both ends of a session are told. */
export interface SessionOptions {
  readonly signal: AbortSignal;
  readonly times?: LinkTimes | undefined;
  /** Takes what the peer's mover of machines says, in order; what it throws ends the session. */
  readonly told?: ((payload: Buffer) => void) | undefined;
}

/** What an end of a session can do besides its main direction. */
export interface Speaking {
  /** Says something to the peer's mover of machines. */
  tell(payload: Buffer): Promise<void>;
  /** Bytes that went each way so far, over all connections. */
  readonly wire: { readonly in: number; readonly out: number };
}

/** Ends a session when its signal is aborted: by dropping the link, until there is more to end. */
export function endWith(signal: AbortSignal, link: Link) {
  let end: (reason: Error) => unknown = (reason) => link.abort(reason);
  const cancel = () => void end(abortReason(signal));
  signal.addEventListener("abort", cancel, { once: true });
  return {
    /** Has it end in another way from now on. */
    by(other: (reason: Error) => unknown): void {
      end = other;
    },
    /** The signal counts no more. */
    release(): void {
      signal.removeEventListener("abort", cancel);
    },
  };
}
