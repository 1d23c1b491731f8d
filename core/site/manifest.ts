import { createReadStream } from "node:fs";
import { readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import type * as v from "valibot";
import { fileError, IntegrityError, ShrinkerError, systemCode } from "../errors.ts";
import { syncFolder } from "../files/whole.ts";
import { checkStreamName } from "../machines/image/name.ts";
import type { Layout } from "../store/layout.ts";
import { decodeBatch } from "../wire/batch.ts";
import { Close, decodeControl, Hello, Open } from "../wire/control.ts";
import { FrameReader } from "../wire/frame.ts";
import { CODEC, COLUMN, FRAME } from "../wire/numbers.ts";

/**
 * A snapshot is a recorded session all of whose contents are named by digest: its manifest is a bundle, in the store's
 * folder of snapshots, and restoring it is receiving it from there.
 */
const SUFFIX = ".snapshot";
const READ_BYTES = 1 << 20;
/** Leaves room for the suffix, and for what an unfinished file is called. */
const MAX_NAME = 200;

/** Where a snapshot's manifest is. Throws `refused` for a name that can't be one. */
export function snapshotPath(layout: Layout, name: string): string {
  checkStreamName(name);
  if (Buffer.byteLength(name) > MAX_NAME)
    throw new ShrinkerError(
      "refused",
      `The name "${name.slice(0, 40)}..." is refused: a snapshot's has at most 200 bytes`,
    );
  return join(layout.snapshots, name + SUFFIX);
}

export async function listSnapshots(layout: Layout): Promise<string[]> {
  const names = await readdir(layout.snapshots).catch((error) => {
    throw fileError("Cannot read", layout.snapshots, error);
  });
  const found = names.filter((name) => name.endsWith(SUFFIX) && !name.startsWith(".shrinker-"));
  return found.map((name) => name.slice(0, -SUFFIX.length)).sort();
}

/** Forgets a snapshot; its contents stay until they are pruned. Rejects with `input` where there is none. */
export async function forgetSnapshot(layout: Layout, name: string): Promise<void> {
  const path = snapshotPath(layout, name);
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) === "ENOENT") throw new ShrinkerError("input", `There is no snapshot "${name}" in the store`);
    throw fileError("Cannot remove", path, error);
  }
  await syncFolder(layout.snapshots);
}

/** What a manifest says of one machine. */
export interface ManifestStream {
  readonly name: string;
  readonly format: string;
  /** Plain bytes. */
  readonly length: number;
  readonly sha256: Uint8Array | undefined;
}

export interface Manifest {
  readonly software: string;
  /** Milliseconds since 1970. */
  readonly created: number;
  /** Bytes of the manifest itself. */
  readonly bytes: number;
  /** Contents that it names, each once. */
  readonly contents: number;
  readonly streams: readonly ManifestStream[];
}

/**
 * Reads a manifest to its end and checks its frames. Rejects with an `IntegrityError` where it is damaged or cut short.
 * @param visit given the digests of the contents, 32 bytes each, in the order of their numbers
 */
export async function readManifest(
  path: string,
  visit: (digests: Buffer) => void | Promise<void> = () => {},
): Promise<Manifest> {
  const stats = await stat(path).catch((error) => {
    throw fileError("Cannot read the snapshot", path, error);
  });
  const file = createReadStream(path, { highWaterMark: READ_BYTES });
  const streams = new Map<number, v.InferOutput<typeof Open>>();
  const ended: ManifestStream[] = [];
  let software = "";
  let contents = 0;
  try {
    const reader = new FrameReader(file, path, true);
    await reader.preface();
    for (let frame = await reader.next(); frame; frame = await reader.next()) {
      const { type, payload } = frame;
      if (type === FRAME.HELLO) ({ software } = decodeControl(Hello, payload));
      else if (type === FRAME.OPEN) {
        const open = decodeControl(Open, payload);
        streams.set(open.stream, open);
      } else if (type === FRAME.CLOSE) {
        const { stream, length, sha256 } = decodeControl(Close, payload);
        const { name, format } = streams.get(stream) ?? { name: "", format: "" };
        ended.push({ name, format, length, sha256 });
      } else if (type === FRAME.BATCH) {
        const { header, columns } = decodeBatch(payload);
        contents += header.count;
        const digests = columns.find(({ column }) => column === COLUMN.DIGESTS);
        if (digests?.codec === CODEC.NONE) await visit(digests.parts[0] as Buffer);
      } else if (type === FRAME.DONE) {
        return { software, created: stats.mtimeMs, bytes: stats.size, contents, streams: ended };
      }
    }
  } finally {
    file.destroy();
  }
  throw new IntegrityError(`"${path}" ends before its last frame: it is cut short`);
}
