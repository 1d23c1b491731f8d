import { PAGE_SIZE } from "../../content/page.ts";

/** Bytes `[start, end)` of a file; `start` < `end`. */
export interface Region {
  readonly start: number;
  readonly end: number;
}

/**
 * The regions in the order of the file, without overlaps, each beginning with a page. Regions that share pages become one:
 * QEMU writes a page once and names it under each virtual address that it has (`dump-guest-memory -p`). Of a region that
 * overlaps another with its pages elsewhere, the pages are left that begin after the other.
 * @param from where the first may begin
 */
export function arrangeRegions(loads: readonly Region[], from: number): readonly Region[] {
  const regions: { start: number; end: number }[] = [];
  for (const { start, end } of loads.toSorted((a, b) => a.start - b.start)) {
    const last = regions.at(-1);
    const taken = last?.end ?? from;
    if (last && start <= taken && (start - last.start) % PAGE_SIZE === 0) {
      last.end = Math.max(last.end, end);
      continue;
    }
    const first = start < taken ? start + Math.ceil((taken - start) / PAGE_SIZE) * PAGE_SIZE : start;
    if (first < end) regions.push({ start: first, end });
  }
  return regions;
}
