import { statSync } from "node:fs";
import { fileError, ShrinkerError } from "../core/errors.ts";
import { directoryTarget } from "../core/machines/image/target.ts";
import { snapshotPath } from "../core/site/manifest.ts";
import { SharedStore } from "../core/site/shared-store.ts";
import { openStoreSite } from "../core/site/store-site.ts";
import { openLayout } from "../core/store/layout.ts";
import { bundle } from "../transports/bundle.ts";
import type { Action } from "./command.ts";
import { discardingTarget } from "./discard.ts";
import { makeFolder } from "./folders.ts";
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
  const path = snapshotPath(await openLayout(dir, domain, false), name);
  const size = manifestSize(path, name, dir);
  if (!dryRun) await makeFolder(directory!);
  const listener = await bundle.listen({ scheme: "file", rest: path, text: `file:${path}` }, { signal });
  const connection = (await listener.accept())!;
  const store = new SharedStore(dir, { domain, warn: output.note });
  const receiving = {
    domain,
    windowLog: WINDOW_LOG,
    logLimit: Number.MAX_SAFE_INTEGER,
    spoolDir: readSpoolDir(options, directory ?? SPOOL_DIR),
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
  return receiveOnce({ ...connection, peer: `snapshot "${name}"` }, receiving, size, "in the manifest", invocation);
};

function manifestSize(path: string, name: string, dir: string): number {
  try {
    return statSync(path).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw fileError("Cannot read", path, error);
    throw new ShrinkerError("input", `There is no snapshot "${name}" in "${dir}": see shrinker list --store ${dir}`);
  }
}
