import { randomBytes } from "node:crypto";
import { constants, open, rename, unlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileError } from "../errors.ts";

/** Writes a file aside, makes it last, and only then gives it its name, replacing what had it. */
export async function writeWhole(path: string, parts: readonly Uint8Array[]): Promise<void> {
  const aside = `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    const { O_WRONLY, O_CREAT, O_EXCL } = constants;
    await using handle = await open(aside, O_WRONLY | O_CREAT | O_EXCL, 0o600);
    for (const part of parts) await writeFile(handle, part);
    await handle.sync();
    await rename(aside, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await unlink(aside).catch(() => {});
    throw fileError("Cannot write", path, error);
  }
}

/** Makes new names last. Some file systems refuse to sync a folder; then there is nothing to be done. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY).catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close().catch(() => {});
}
