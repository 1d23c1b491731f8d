import { ShrinkerError } from "../errors.ts";
import { MAX_PACKS } from "./pack.ts";

/**
 * The first of `count` numbers in a row for new packs: behind all others, or, where numbers run out, in a gap between them. Throws
 * `space` where there is none.
 * @param taken numbers of packs that are there, or that an index names
 */
export function freeNumbers(taken: Iterable<number>, count: number): number {
  const sorted = [...new Set(taken)].sort((a, b) => a - b);
  const behind = (sorted.at(-1) ?? 0) + 1;
  if (behind + count - 1 <= MAX_PACKS) return behind;
  let first = 1;
  for (const number of sorted) {
    if (number - first >= count) return first;
    first = number + 1;
  }
  throw new ShrinkerError("space", `The store has no numbers for ${count} further packs: keep what follows in another`);
}
