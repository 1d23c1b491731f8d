import { zstdDecompressSync } from "node:zlib";
import { sha256Into } from "../runtime.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "./page.ts";

/** Writes the digests of the first `count` pages of `pages` to `digests`, 32 bytes each, back to back. */
export function digestPages(pages: ArrayBuffer, count: number, digests: Uint8Array): void {
  for (let i = 0; i < count; i++) {
    sha256Into(
      new Uint8Array(pages, i * PAGE_SIZE, PAGE_SIZE),
      digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE),
    );
  }
}

/** Decompresses `count` pages from a zstd frame and digests them. Throws where it holds anything else. */
export function digestPacked(packed: Uint8Array, count: number): { pages: ArrayBuffer; digests: ArrayBuffer } {
  const length = count * PAGE_SIZE;
  const plain = zstdDecompressSync(packed, { maxOutputLength: length, chunkSize: length } as {
    maxOutputLength: number;
  });
  if (plain.length !== length) throw new RangeError(`${plain.length} bytes where ${count} pages are due`);
  // Memory of its own, that can be given to another thread.
  const whole = plain.byteOffset === 0 && plain.buffer.byteLength === length && plain.buffer instanceof ArrayBuffer;
  const pages = whole ? (plain.buffer as ArrayBuffer) : new Uint8Array(plain).buffer;
  const digests = new ArrayBuffer(count * DIGEST_SIZE);
  digestPages(pages, count, new Uint8Array(digests));
  return { pages, digests };
}
