import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE } from "../content/page.ts";
import { DigestTable } from "../index/digest-table.ts";
import type { Piece } from "../machines/machine.ts";
import { sha256Into } from "../runtime.ts";
import type { Segmenter, SegmentSink } from "../segment/segmenter.ts";

/** What a stream is made of, in bytes: `plain` = `zero` + `duplicate` + `distinct` + `literal`. */
export interface ContentStatistics {
  readonly plain: number;
  readonly zero: number;
  /** Chunks whose content the same stream had before. */
  readonly duplicate: number;
  /** Chunks of the first of each content. */
  readonly distinct: number;
  /** What is in no chunk. */
  readonly literal: number;
}

const ZEROS = new Uint8Array(64 << 10);

/**
 * Reads a stream to its end and counts what it is made of, by the digests of its chunks: what deduplication alone can
 * save, without a codec. Costs 48 bytes of memory a distinct chunk.
 */
export async function countContents(segmenter: Segmenter, pieces: AsyncIterable<Piece>): Promise<ContentStatistics> {
  const counts = { plain: 0, zero: 0, duplicate: 0, distinct: 0, literal: 0 };
  const seen = new DigestTable();
  const words = new Int32Array(DIGEST_WORDS);
  const digest = new Uint8Array(words.buffer, 0, DIGEST_SIZE);
  const sink: SegmentSink = {
    literal(_bytes, start, end) {
      counts.literal += end - start;
    },
    chunk(bytes, start) {
      sha256Into(bytes.subarray(start, start + PAGE_SIZE), digest);
      if (seen.find(words, 0) >= 0) counts.duplicate += PAGE_SIZE;
      else {
        seen.add(words, 0);
        counts.distinct += PAGE_SIZE;
      }
    },
    zero(length) {
      counts.zero += length;
    },
  };
  for await (const piece of pieces) {
    if ("bytes" in piece) {
      segmenter.push(piece.bytes, 0, piece.bytes.length, sink);
      piece.release?.();
    } else if (segmenter.pushZeros) segmenter.pushZeros(piece.zeros, sink);
    else {
      for (let left = piece.zeros; left > 0; left -= ZEROS.length) {
        segmenter.push(ZEROS, 0, Math.min(left, ZEROS.length), sink);
      }
    }
  }
  segmenter.flush(sink);
  counts.plain = counts.zero + counts.duplicate + counts.distinct + counts.literal;
  return counts;
}
