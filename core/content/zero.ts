import { PAGE_SIZE } from "./page.ts";

const ZERO_PAGE = Buffer.alloc(PAGE_SIZE);

/** Whether `bytes[start, start + 4096)` are all zero. Most pages are told apart by their first bytes; no view is made for those. */
export function isZeroPage(bytes: Uint8Array, start: number): boolean {
  if (bytes[start] !== 0 || bytes[start + 1365] !== 0 || bytes[start + 2730] !== 0 || bytes[start + 4095] !== 0) {
    return false;
  }
  for (let i = start; i < start + 64; i++) if (bytes[i] !== 0) return false;
  return ZERO_PAGE.compare(bytes, start, start + PAGE_SIZE) === 0;
}
