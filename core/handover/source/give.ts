import { LinkError } from "../../errors.ts";
import type { Talk } from "./mailbox.ts";

export interface GiveContext {
  readonly failed: Promise<never>;
  readonly signal: AbortSignal;
}

/** What the destination gets to let the guest run. */
const RUN_MS = 30_000;

/**
 * Has the destination let a guest run whose journal says that it was given away. From then on it is not the source's any more,
 * whatever happens. Rejects where the destination doesn't say that it runs.
 */
export async function give(talk: Talk, { failed, signal }: GiveContext): Promise<void> {
  const late = () => new LinkError(`it does not say so within ${RUN_MS / 1000} s`);
  await talk.ask({ type: "go" }, ["running"], { signal, failed, timeout: RUN_MS, late });
}
