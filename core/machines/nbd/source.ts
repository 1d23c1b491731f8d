import { stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { fileError } from "../../errors.ts";
import { changed, differs, openFile } from "../image/file.ts";
import { checkStreamName } from "../image/name.ts";
import { readerSource } from "../image/source.ts";
import type { StreamSource } from "../machine.ts";
import { openClient } from "./client.ts";
import { nbdReader } from "./reader.ts";
import { startServer } from "./server.ts";

export interface NbdSpec {
  /** What the stream is called at the destination; else the file's base name. */
  readonly name?: string;
  /** An image in a format that QEMU reads. */
  readonly path: string;
  /**
   * QEMU's name of that format, such as `qcow2`; else QEMU tells it by the first bytes. In a raw disk those are the guest's,
   * who may make them those of a qcow2 that names any file of this machine.
   */
  readonly imageFormat?: string;
  /** Whether to compute the SHA-256 of the plain bytes; the default. */
  readonly digest?: boolean;
  /** Ends the opening. */
  readonly signal?: AbortSignal;
  /** What serves the image; `qemu-nbd` unless given. */
  readonly program?: string;
}

/**
 * Opens a disk by its content: whatever the image's format, the stream is the disk as its guest sees it. A qemu-nbd runs
 * until the pieces were taken, or the source is closed, and keeps other QEMUs from writing to the image meanwhile. Rejects
 * with `input` for what can't be read, `refused` for its name.
 */
export async function openNbd(spec: NbdSpec): Promise<StreamSource> {
  const name = checkStreamName(spec.name ?? basename(spec.path));
  const { handle, found } = await openFile(spec.path);
  await handle.close();
  const server = await startServer({ ...spec, path: resolve(spec.path) });
  const client = await openClient(server.socket, { ...spec, explain: server.explain }).catch(async (error) => {
    await server.stop();
    throw error;
  });

  const missing = (error: unknown): never => {
    throw fileError("Cannot read", spec.path, error);
  };

  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= client.close().then(server.stop);
    return closing;
  };
  const reader = nbdReader(client, {
    async finish() {
      if (differs(await stat(spec.path).catch(missing), found.stats)) throw changed(spec.path);
    },
    close,
  });
  const { size } = client;
  return { ...readerSource({ name, format: "raw", size }, async () => reader, spec.digest ?? true), close };
}
