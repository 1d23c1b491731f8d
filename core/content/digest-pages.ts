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
