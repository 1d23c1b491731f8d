import type { QmpClient } from "./qmp.ts";
import { common, type MigrationSettings, readSettings, writeSettings } from "./settings.ts";

/** What both ends of a migration through this tool agree on. */
export interface HopOptions {
  /** Makes post-copy possible; it still has to be started. */
  readonly postcopy?: boolean | undefined;
  /** Whether the other end can have a second connection then (since QEMU 7.1); so unless false. */
  readonly preempt?: boolean | undefined;
}

/**
 * Capabilities for the hop between QEMU and this tool. Without a return path a source has `completed` though nobody may have
 * loaded the guest. What hides pages' contents, sends them past the stream or needs further connections is off, and so is
 * what puts sections into it that only QEMU can read.
 */
export function hopCapabilities({ postcopy = false, preempt = true }: HopOptions): Record<string, boolean> {
  return {
    events: true,
    "return-path": true,
    // Images are activated by `cont`, not by the load: the source's may be needed again.
    "late-block-activate": true,
    "postcopy-ram": postcopy,
    // What a guest waits for goes on a connection of its own.
    "postcopy-preempt": postcopy && preempt,
    // The source keeps all of its guest until that is let run at the destination.
    "release-ram": false,
    xbzrle: false,
    compress: false,
    multifd: false,
    "mapped-ram": false,
    "background-snapshot": false,
    "zero-copy-send": false,
    "rdma-pin-all": false,
    "x-colo": false,
    "x-ignore-shared": false,
    "dirty-bitmaps": false,
    block: false,
  };
}

/** Parameters for that hop: no TLS, which the tool couldn't read; the source of the guest goes on living. */
export const HOP_PARAMETERS: Readonly<Record<string, string>> = { "tls-creds": "", mode: "normal" };

/**
 * Changes those of `wanted` that this QEMU has, and gives what they were before, to be put back by `writeSettings`.
 * @param keep is given them before anything is changed: a journal's chance
 */
export async function changeSettings(
  qmp: QmpClient,
  wanted: MigrationSettings,
  keep?: (saved: MigrationSettings) => Promise<void>,
): Promise<MigrationSettings> {
  const now = await readSettings(qmp);
  const saved = common(now, wanted);
  await keep?.(saved);
  await writeSettings(qmp, common(wanted, now));
  return saved;
}
