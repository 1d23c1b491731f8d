import { statSync } from "node:fs";
import { fileError, ShrinkerError, systemCode } from "../core/errors.ts";
import { snapshotPath } from "../core/site/manifest.ts";
import { openLayout } from "../core/store/layout.ts";
import type { Connection } from "../core/transport/transport.ts";
import { bundle } from "../transports/bundle.ts";

/** A snapshot's manifest, as it lies in its store. */
export interface FoundManifest {
  readonly name: string;
  /** The store's folder. */
  readonly dir: string;
  readonly path: string;
  /** Bytes of the manifest. */
  readonly size: number;
}

/** Finds a snapshot by its name. Rejects with `input` where the store has none of that name. */
export async function findManifest(dir: string, domain: string, name: string): Promise<FoundManifest> {
  const path = snapshotPath(await openLayout(dir, domain, false), name);
  try {
    return { name, dir, path, size: statSync(path).size };
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw fileError("Cannot read", path, error);
    throw new ShrinkerError("input", `There is no snapshot "${name}" in "${dir}": see shrinker list --store ${dir}`);
  }
}

/** A manifest as the recording that it is. */
export async function openManifest({ name, path }: FoundManifest, signal: AbortSignal): Promise<Connection> {
  const listener = await bundle.listen({ scheme: "file", rest: path, text: `file:${path}` }, { signal });
  return { ...(await listener.accept())!, peer: `snapshot "${name}"` };
}
