import { stat } from "node:fs/promises";
import { DIGEST_SIZE } from "../content/page.ts";
import { fileError, IntegrityError } from "../errors.ts";
import { PREFIX_SIZE } from "../index/prefix-table.ts";
import { heldBy, holdPath } from "../store/holds.ts";
import type { Layout } from "../store/layout.ts";
import { readManifest, snapshotPath } from "./manifest.ts";

/** Given digests back to back; each has `size` bytes, 32 or the first 20. */
export type VisitDigests = (digests: Uint8Array, size: number) => void;

/** What needs contents to stay in a store. */
export interface Need {
  readonly kind: "snapshot" | "hold";
  readonly name: string;
  /**
   * Names all contents, some perhaps twice. Rejects with `integrity` where it is damaged, `refused` for another version, `input`
   * where it can't be read. A hold takes 20 bytes of memory a content.
   */
  visit(visit: VisitDigests): Promise<void>;
  /** Changes when it is replaced; undefined where it is gone. */
  identity(): Promise<string | undefined>;
}

export function snapshotNeed(layout: Layout, name: string): Need {
  const path = snapshotPath(layout, name);
  return {
    kind: "snapshot",
    name,
    async visit(visit) {
      let named = 0;
      const { contents } = await readManifest(path, (digests) => {
        named += digests.length / DIGEST_SIZE;
        visit(digests, DIGEST_SIZE);
      }).catch((error) => {
        throw fileError("Cannot read the snapshot", path, error);
      });
      // What is not named can't be kept.
      if (named !== contents)
        throw new IntegrityError(`"${path}" is no manifest: it does not name all of its contents`);
    },
    identity: () => identify(path),
  };
}

export function holdNeed(layout: Layout, name: string): Need {
  return {
    kind: "hold",
    name,
    async visit(visit) {
      visit((await heldBy(layout, name)).records, PREFIX_SIZE);
    },
    identity: () => identify(holdPath(layout, name)),
  };
}

async function identify(path: string): Promise<string | undefined> {
  const stats = await stat(path).catch(() => undefined);
  return stats && `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeMs}`;
}
