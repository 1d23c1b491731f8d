import { LinkError } from "../../errors.ts";
import type { Talk } from "./mailbox.ts";

export interface GiveContext {
  readonly failed: Promise<never>;
  readonly signal: AbortSignal;
}

/**
 * Has the destination let a guest run whose journal says that it was given away. From then on it is not the source's any more,
 * whatever happens. Rejects where the destination doesn't say that it runs.
 */
export async function give(talk: Talk, { failed, signal }: GiveContext): Promise<void> {
  const { runMs } = talk.waits;
  const late = () => new LinkError(`it does not say so within ${runMs / 1000} s`);
  await talk.ask({ type: "go" }, ["running"], { signal, failed, timeout: runMs, late });
}
