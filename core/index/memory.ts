import { DIGEST_SIZE, DIGEST_WORDS } from "../content/page.ts";
import { DigestTable } from "./digest-table.ts";
import type { SiteIndex } from "./site-index.ts";

/** A site index in the RAM of this process: at most 48 bytes a digest. */
export function memoryIndex(): SiteIndex {
  const table = new DigestTable();
  return {
    async lookup(digests, count, held) {
      const words = asWords(digests, count);
      for (let i = 0; i < count; i++) held[i] = table.find(words, i * DIGEST_WORDS) >= 0 ? 1 : 0;
    },
    async insert(digests, count) {
      const words = asWords(digests, count);
      for (let i = 0; i < count; i++) {
        if (table.find(words, i * DIGEST_WORDS) < 0) table.add(words, i * DIGEST_WORDS);
      }
    },
    async close() {},
  };
}

/** The first `count` digests as 32-bit words; copied where they are not aligned. */
function asWords(digests: Uint8Array, count: number): Int32Array {
  const length = count * DIGEST_SIZE;
  if (digests.byteOffset % 4 === 0) return new Int32Array(digests.buffer, digests.byteOffset, length / 4);
  return new Int32Array(digests.slice(0, length).buffer);
}
