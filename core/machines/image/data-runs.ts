import { PAGE_SIZE } from "../../content/page.ts";
import { isZeroPage } from "../../content/zero.ts";

/**
 * The parts of `bytes` that a file needs to hold, as `[from, to)` in `bytes`: all but the blocks that are zero. The engine joins
 * short runs of zeros with what surrounds them, so a source's small holes are found again here.
 * @param position where in the file `bytes` go; blocks are aligned in the file
 */
export function* dataRuns(bytes: Uint8Array, position: number): Generator<readonly [number, number]> {
  let from = 0;
  const firstBlock = (PAGE_SIZE - (position % PAGE_SIZE)) % PAGE_SIZE;
  for (let at = firstBlock; at + PAGE_SIZE <= bytes.length; at += PAGE_SIZE) {
    if (!isZeroPage(bytes, at)) continue;
    if (at > from) yield [from, at];
    from = at + PAGE_SIZE;
  }
  if (from < bytes.length) yield [from, bytes.length];
}
