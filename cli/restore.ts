import { ShrinkerError } from "../core/errors.ts";
import { directoryTarget } from "../core/machines/image/target.ts";
import { findReferred } from "../core/site/referred.ts";
import { SharedStore } from "../core/site/shared-store.ts";
import { openStoreSite } from "../core/site/store-site.ts";
import type { Action } from "./command.ts";
import { discardingTarget } from "./discard.ts";
import { makeFolder } from "./folders.ts";
import { findManifest, openManifest } from "./manifests.ts";
import { receiveOnce } from "./receive-once.ts";
import { readDomain, readSpoolDir, readStoreDir, SPOOL_DIR, WINDOW_LOG } from "./settings.ts";
import { software } from "./version.ts";

/** Writes the machines of a snapshot to a folder: its manifest is received as a bundle, with the store at hand. */
export const restore: Action = async (invocation) => {
  const { args, options, output, interrupt } = invocation;
  const { signal } = interrupt;
  const [name, ...others] = args;
  if (name === undefined) throw new ShrinkerError("usage", "Which snapshot? See shrinker list --store DIR");
  if (others.length > 0) throw new ShrinkerError("usage", `One snapshot at a time: "${others[0]}" is one too many`);
  const dryRun = options.flag("dry-run");
  const directory = options.text("output");
  if (!dryRun && directory === undefined)
    throw new ShrinkerError("usage", "Where to put the machines? Give --output DIR");
  const domain = readDomain(options);
  const dir = readStoreDir(options);
  const manifest = await findManifest(dir, domain, name);
  if (!dryRun) await makeFolder(directory!);
  const connection = await openManifest(manifest, signal);
  const store = new SharedStore(dir, { domain, warn: output.note });
  // Its threads start meanwhile. Why it can't be opened is told by the session, which opens it again.
  const opened = store.enter().then(
    () => true,
    () => false,
  );
  const referred = await findReferred(manifest.path);
  const receiving = {
    domain,
    windowLog: WINDOW_LOG,
    logLimit: Number.MAX_SAFE_INTEGER,
    spoolDir: readSpoolDir(options, directory ?? SPOOL_DIR),
    referred,
    software,
    signal,
    allOrNothing: options.flag("all-or-nothing"),
    openSite: () => openStoreSite({ store, keep: false }, undefined),
    target: dryRun
      ? discardingTarget()
      : directoryTarget(directory!, { force: options.flag("force"), digest: options.flag("sha256") }),
    dryRun,
    event: output.event,
  };
  const early = await opened;
  try {
    return await receiveOnce(connection, receiving, manifest.size, "in the manifest", invocation);
  } finally {
    if (early) await store.leave();
  }
};
