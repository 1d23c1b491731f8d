import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { sha256Into } from "../runtime.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "./page.ts";
import { unpackInto } from "./unpack.ts";

/** Writes the digests of the first `count` pages of `pages` to `digests`, 32 bytes each, back to back. */
export function digestPages(pages: ArrayBuffer, count: number, digests: Uint8Array): void {
  for (let i = 0; i < count; i++) {
    sha256Into(
      new Uint8Array(pages, i * PAGE_SIZE, PAGE_SIZE),
      digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE),
    );
  }
}

/**
 * Decompresses `count` pages from a zstd frame and digests them. Throws where it holds anything else.
 * @param room memory that the pages are put into where it is larger than they are
 */
export function digestPacked(
  packed: Uint8Array,
  count: number,
  room?: ArrayBuffer,
): { pages: ArrayBuffer; digests: ArrayBuffer } {
  const length = count * PAGE_SIZE;
  const fits = room && room.byteLength > length && unpackInto(packed, new Uint8Array(room), length);
  const pages = fits ? room : unpack(packed, count);
  const digests = new ArrayBuffer(count * DIGEST_SIZE);
  digestPages(pages, count, new Uint8Array(digests));
  return { pages, digests };
}

function unpack(packed: Uint8Array, count: number): ArrayBuffer {
  const length = count * PAGE_SIZE;
  const plain = zstdDecompressSync(packed, { maxOutputLength: length, chunkSize: length } as {
    maxOutputLength: number;
  });
  if (plain.length !== length) throw new RangeError(`${plain.length} bytes where ${count} pages are due`);
  return ownMemory(plain);
}

/** Compresses the first `count` pages to a zstd frame, in memory of its own. */
export function packPages(pages: ArrayBuffer, count: number, level: number): ArrayBuffer {
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  return ownMemory(zstdCompressSync(new Uint8Array(pages, 0, count * PAGE_SIZE), { params, chunkSize: ONE_CHUNK }));
}

/** Output comes in one piece: the runtimes put several together by copying. */
const ONE_CHUNK = 1 << 20;

/** The bytes in memory that holds nothing else, and so can be given to another thread; copied only where they have to be. */
function ownMemory(bytes: Buffer): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes;
  const alone = buffer instanceof ArrayBuffer && byteOffset === 0 && buffer.byteLength === byteLength;
  return alone ? buffer : new Uint8Array(bytes).buffer;
}
