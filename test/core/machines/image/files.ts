/** Folders and files for tests of images. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Piece, StreamSource } from "../../../../core/machines/machine.ts";

/** A new folder, and what removes it. */
export function folder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "shrinker-image-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Writes a sparse file: `parts` at their offsets. */
export async function sparseFile(path: string, size: number, parts: readonly (readonly [number, Uint8Array])[]) {
  const handle = await open(path, "w");
  for (const [offset, bytes] of parts) await handle.write(bytes, 0, bytes.length, offset);
  await handle.truncate(size);
  await handle.close();
}

/** All bytes of a source; also checks that holes are not empty and that pieces are within their buffers. */
export async function readAll(source: StreamSource, each: (piece: Piece) => void = () => {}): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const piece of source.pieces(new AbortController().signal)) {
    each(piece);
    if ("zeros" in piece) parts.push(Buffer.alloc(piece.zeros));
    else {
      parts.push(Buffer.from(piece.bytes));
      piece.release?.();
    }
  }
  return Buffer.concat(parts);
}

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();

/** Bytes without a pattern, alike for the same seed. */
export function noise(length: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed * 2_654_435_761 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}
