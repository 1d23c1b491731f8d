import type { BigIntStats } from "node:fs";

/** What a file that was changed, or replaced by another one, has another one of. */
export function stampOf({ ino, mtimeNs, size }: Pick<BigIntStats, "ino" | "mtimeNs" | "size">): string {
  return `${ino} ${mtimeNs} ${size}`;
}
