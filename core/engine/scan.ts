import { copyBytes } from "../content/copy.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { PageWorker } from "../content/page-worker.ts";
import type { Piece } from "../machines/machine.ts";
import { MAX_HELD, type Segmenter, type SegmentSink } from "../segment/segmenter.ts";

/** Chunks that are digested at once: 1 MiB. */
const BLOCK_CHUNKS = 256;
const SLICE_BYTES = 64 << 10;
/** A slice, and what the segmenter held back, may hold so many chunks. */
const SLICE_CHUNKS = 20;
/** What a slice, and what the segmenter held back, may add to the literals. */
const SLICE_LITERALS = SLICE_BYTES + MAX_HELD;
const BLOCK_LITERALS = 1 << 20;

const ZEROS = new Uint8Array(SLICE_BYTES);

/**
 * Chunks of a stream, in order, and what is known of them. Valid until the call returns, or what it returns resolves.
 * Blocks end about where batches do.
 */
export interface ScannedBlock {
  readonly count: number;
  /** 4096 bytes each. */
  readonly pages: Buffer;
  /** 32 bytes each, as bytes and as 32-bit words. */
  readonly digests: Uint8Array;
  readonly words: Int32Array;
  /** Where in the stream each begins. */
  readonly offsets: Float64Array;
  /** As the segmenter gives them. */
  readonly keys: Float64Array;
  /** What lies in no chunk, since the last block; there may be no chunk at all. */
  readonly literals: Uint8Array;
}

/** What of a stream is in no chunk, in bytes. */
export interface ScannedRest {
  readonly zero: number;
  readonly literal: number;
}

/** Reads a stream to its end, cuts it, and digests its chunks on another thread. Rejects with what the stream rejects with. */
export async function scanContents(
  segmenter: Segmenter,
  pieces: AsyncIterable<Piece>,
  visit: (block: ScannedBlock) => void | Promise<void>,
): Promise<ScannedRest> {
  const worker = new PageWorker();
  const offsets = new Float64Array(BLOCK_CHUNKS);
  const keys = new Float64Array(BLOCK_CHUNKS);
  const literals = Buffer.allocUnsafeSlow(BLOCK_LITERALS + SLICE_LITERALS);
  let pages: Buffer = Buffer.from(new ArrayBuffer(BLOCK_CHUNKS * PAGE_SIZE));
  let digests = new ArrayBuffer(BLOCK_CHUNKS * DIGEST_SIZE);
  const rest = { zero: 0, literal: 0 };
  let position = 0;
  let count = 0;
  let literalsEnd = 0;
  const sink: SegmentSink = {
    literal(bytes, start, end) {
      literalsEnd += Buffer.prototype.copy.call(bytes, literals, literalsEnd, start, end);
      rest.literal += end - start;
      position += end - start;
    },
    chunk(bytes, start, key) {
      copyBytes(bytes, pages, count * PAGE_SIZE, start, start + PAGE_SIZE);
      keys[count] = key;
      offsets[count++] = position;
      position += PAGE_SIZE;
    },
    zero(length) {
      rest.zero += length;
      position += length;
    },
  };
  const isFull = () => count + SLICE_CHUNKS > BLOCK_CHUNKS || literalsEnd > BLOCK_LITERALS;
  const finish = async () => {
    if (count === 0 && literalsEnd === 0) return;
    if (count > 0) {
      const done = await worker.digest(pages.buffer as ArrayBuffer, count, digests);
      pages = Buffer.from(done.pages);
      digests = done.digests;
    }
    const found = { count, pages, digests: new Uint8Array(digests), words: new Int32Array(digests) };
    const block = { ...found, offsets, keys, literals: literals.subarray(0, literalsEnd) };
    count = 0;
    literalsEnd = 0;
    await visit(block);
  };
  const push = async (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
      if (isFull()) await finish();
      segmenter.push(bytes, at, Math.min(bytes.length, at + SLICE_BYTES), sink);
    }
  };
  try {
    for await (const piece of pieces) {
      if ("bytes" in piece) {
        await push(piece.bytes);
        piece.release?.();
      } else if (segmenter.pushZeros) {
        if (isFull()) await finish();
        segmenter.pushZeros(piece.zeros, sink);
      } else {
        for (let left = piece.zeros; left > 0; left -= ZEROS.length) await push(ZEROS.subarray(0, left));
      }
    }
    segmenter.flush(sink);
    await finish();
    return rest;
  } finally {
    worker.close();
  }
}
