import { PAGE_SIZE } from "../../content/page.ts";
import { isZeroPage } from "../../content/zero.ts";
import type { SegmentSink } from "../segmenter.ts";
import { pageKey, pageNumber } from "./blocks.ts";
import { RAM_CONTINUE, RAM_PAGE, RAM_ZERO, RECORD_HEADER } from "./format.ts";
import type { Ram } from "./ram.ts";

/** How far a walk came, in the piece that it was given. Kept by the caller, so that a walk allocates nothing. */
export interface Walk {
  /** What is before this has been parsed. */
  at: number;
  /** What is before this has been emitted; from here to `at` are literals. */
  emitted: number;
}

const PAGE_RECORD = RECORD_HEADER + PAGE_SIZE;
const ZERO_RECORD = RECORD_HEADER + 1;
const SAME_BLOCK_PAGE = RAM_PAGE | RAM_CONTINUE;
const SAME_BLOCK_ZERO = RAM_ZERO | RAM_CONTINUE;

/**
 * Takes the records that make up nearly all of a stream: pages and zero pages of the same block as before, whole in this
 * piece. Stops at the first other one, which is the grammar's. This is the path that every page goes, so it makes no
 * objects, and adjacent literals (a run of zero records and the next page's header) go out as one.
 */
export function walkRecords(walk: Walk, bytes: Uint8Array, end: number, ram: Ram, sink: SegmentSink): void {
  const block = ram.current;
  if (!block) return;
  const firstKey = block.firstKey;
  let at = walk.at;
  let emitted = walk.emitted;
  let pages = 0;
  let zeros = 0;
  while (end - at >= ZERO_RECORD) {
    const flags = ((bytes[at + 6] & 0x0f) << 8) | bytes[at + 7];
    if (flags === SAME_BLOCK_ZERO) {
      at += ZERO_RECORD;
      zeros++;
    } else if (flags === SAME_BLOCK_PAGE && end - at >= PAGE_RECORD) {
      const content = at + RECORD_HEADER;
      sink.literal(bytes, emitted, content);
      if (isZeroPage(bytes, content)) sink.zero(PAGE_SIZE);
      else sink.chunk(bytes, content, pageKey(firstKey, pageNumber(bytes, at)));
      at = emitted = content + PAGE_SIZE;
      pages++;
    } else break;
  }
  block.pages += pages;
  block.zeros += zeros;
  walk.at = at;
  walk.emitted = emitted;
}
