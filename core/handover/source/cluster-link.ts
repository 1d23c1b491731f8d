import type { SourceSession } from "../../engine/source-session.ts";
import { interruptible } from "../../interruptible.ts";
import type { TunnelEntrance } from "../../tunnel/entrance.ts";
import type { Mailbox } from "./mailbox.ts";

/** What the destination gets to end a session in which nothing is left to do. */
const FINISH_MS = 10_000;

/** A session over which guests are handed over. */
export interface ClusterLink {
  readonly session: SourceSession;
  readonly mailbox: Mailbox;
  readonly entrance: TunnelEntrance;
}

/** Ends the session in order, unless it has failed, or somebody does not want to wait for that. Never rejects. */
export async function endSession({ session }: ClusterLink, signal: AbortSignal): Promise<void> {
  const over = AbortSignal.any([signal, AbortSignal.timeout(FINISH_MS)]);
  try {
    await interruptible(Promise.race([session.finish(0), session.failed]), over);
  } catch (error) {
    await session.abort(error as Error);
  }
}
