import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { ProtocolError } from "../errors.ts";
import type { BatchHeader, EncodedColumn } from "../wire/batch.ts";
import { BATCH_COST, COLUMN, SEGMENT_COST } from "../wire/numbers.ts";

/** What a codec may add to bytes that it can't make fewer: one in this many, and a little. */
const EXPANSION = 128;
const EXPANSION_BYTES = 64;

/** What a batch takes from its stream's credit. */
export function batchCost(plain: number, segments: number): number {
  return BATCH_COST + plain + segments * SEGMENT_COST;
}

/**
 * Checks, before anything is decoded, that a batch's columns hold no more than its header says, for that is what the
 * sender's credit is charged with while the batch waits for its turn. Throws a `ProtocolError`.
 */
export function checkBounds({ segments, count, plain }: BatchHeader, columns: readonly EncodedColumn[]): void {
  const lengths = new Array<number>(Object.keys(COLUMN).length).fill(0);
  for (const { column, length, parts } of columns) {
    lengths[column] = length;
    if (parts[0]!.length > length + length / EXPANSION + EXPANSION_BYTES)
      throw new ProtocolError(`A batch spends ${parts[0]!.length} bytes on ${length} of column ${column}`);
  }
  const pages = lengths[COLUMN.DELTAS]! + lengths[COLUMN.CONTENTS]! + lengths[COLUMN.STORED]!;
  const known = (lengths[COLUMN.DIGESTS]! / DIGEST_SIZE) * PAGE_SIZE;
  const within =
    segments > 0 &&
    lengths[COLUMN.OPS]! <= segments &&
    // What is left are contents of earlier sessions, which no column holds.
    pages + known <= count * PAGE_SIZE &&
    count * PAGE_SIZE + lengths[COLUMN.LITERALS]! <= plain;
  if (!within) throw new ProtocolError("A batch's columns don't match its header");
}
