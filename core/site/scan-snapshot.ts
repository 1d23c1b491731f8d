import { acceptSession } from "../engine/destination-session.ts";
import type { Connection } from "../transport/transport.ts";
import { MAX_WINDOW_LOG } from "../wire/numbers.ts";
import { type ReadStream, scanningTarget } from "./scanning-target.ts";
import type { SharedStore } from "./shared-store.ts";
import { openStoreSite } from "./store-site.ts";

export interface SnapshotOptions {
  /** Where the snapshot's contents are. */
  readonly store: SharedStore;
  readonly domain: string;
  readonly software: string;
  /** A folder on a disk for contents that come again. */
  readonly spoolDir: string;
  readonly signal: AbortSignal;
}

/**
 * Restores a snapshot's machines, to be read and not kept: their bytes are those that a restore would write, proved in the
 * same way. Rejects where one of them isn't whole.
 * @param manifest the snapshot's manifest, as a recording
 */
export async function scanSnapshot(manifest: Connection, options: SnapshotOptions, read: ReadStream): Promise<void> {
  const { store, ...common } = options;
  const session = await acceptSession(manifest, {
    ...common,
    windowLog: MAX_WINDOW_LOG,
    logLimit: Number.MAX_SAFE_INTEGER,
    allOrNothing: false,
    openSite: () => openStoreSite({ store, keep: false }, undefined),
    target: scanningTarget(read),
  });
  const outcomes = await session.run();
  for (const { error } of outcomes) if (error) throw error;
}
