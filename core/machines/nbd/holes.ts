import { PAGE_SIZE } from "../../content/page.ts";
import type { Extent } from "./protocol.ts";

/** Shorter holes are read: that costs less than a piece of their own. */
const MIN_HOLE = 64 << 10;

/** A part of a disk: a hole or bytes, up to `end`. */
export interface Stretch {
  readonly end: number;
  readonly zeros: boolean;
}

/**
 * Divides what follows `start` into bytes, and the holes that are worth skipping: whole pages, as images with small clusters
 * have extents that would cut one.
 * @param extents from `start` on, neighbours differing in kind; not empty
 * @param size of the disk, where a hole may end within a page
 */
export function findHoles(extents: readonly Extent[], start: number, size: number): Stretch[] {
  const stretches: Stretch[] = [];
  let at = start;
  let done = start;
  for (const { length, zeros } of extents) {
    const hole = Math.ceil(at / PAGE_SIZE) * PAGE_SIZE;
    at += length;
    const end = at === size ? size : at - (at % PAGE_SIZE);
    const worth = end === size ? end > hole : end - hole >= MIN_HOLE;
    if (!zeros || !worth) continue;
    if (hole > done) stretches.push({ end: hole, zeros: false });
    stretches.push({ end, zeros: true });
    done = end;
  }
  if (at > done) stretches.push({ end: at, zeros: false });
  return stretches;
}
