import { PAGE_SIZE } from "../content/page.ts";
import { isZeroPage } from "../content/zero.ts";
import { NO_KEY, type Segmenter, type SegmentSink } from "./segmenter.ts";

/** Cuts its input into blocks, from its first byte on. */
export interface BlockCutter extends Segmenter {
  pushZeros(length: number, sink: SegmentSink): void;
  /** Emits what is held of a block as a literal; what follows begins another block. */
  restart(sink: SegmentSink): void;
}

/**
 * Chunks of 4 KiB aligned to where the input began, or was last restarted. A block that is not whole (the last one, or
 * one that `flush` cut) is a literal, so the blocks after it stay aligned.
 */
export function createBlockCutter(): BlockCutter {
  /** The beginning of a block that the pieces so far did not finish: its first `held` bytes. */
  const block = new Uint8Array(PAGE_SIZE);
  let held = 0;
  /** Bytes still to come of a block whose beginning `flush` has emitted. */
  let passing = 0;

  function emitHeldBlock(sink: SegmentSink): void {
    held = 0;
    if (isZeroPage(block, 0)) sink.zero(PAGE_SIZE);
    else sink.chunk(block, 0, NO_KEY);
  }

  /** Takes the rest of a block that an earlier piece began; returns where the next block begins. */
  function finishBlock(bytes: Uint8Array, start: number, end: number, sink: SegmentSink): number {
    if (passing > 0) {
      const stop = Math.min(start + passing, end);
      passing -= stop - start;
      sink.literal(bytes, start, stop);
      return stop;
    }
    const stop = Math.min(start + PAGE_SIZE - held, end);
    hold(bytes, start, stop);
    if (held === PAGE_SIZE) emitHeldBlock(sink);
    return stop;
  }

  function hold(bytes: Uint8Array, start: number, end: number): void {
    block.set(bytes.subarray(start, end), held);
    held += end - start;
  }

  function flush(sink: SegmentSink): void {
    if (held === 0) return;
    sink.literal(block, 0, held);
    passing = PAGE_SIZE - held;
    held = 0;
  }

  return {
    push(bytes, start, end, sink) {
      if (start >= end) return;
      let at = held > 0 || passing > 0 ? finishBlock(bytes, start, end, sink) : start;
      let zeros = 0;
      for (; end - at >= PAGE_SIZE; at += PAGE_SIZE) {
        if (isZeroPage(bytes, at)) {
          zeros += PAGE_SIZE;
          continue;
        }
        if (zeros > 0) sink.zero(zeros);
        zeros = 0;
        sink.chunk(bytes, at, NO_KEY);
      }
      if (zeros > 0) sink.zero(zeros);
      if (at < end) hold(bytes, at, end);
    },

    pushZeros(length, sink) {
      let left = length;
      let zeros = Math.min(passing, left);
      passing -= zeros;
      left -= zeros;
      if (held > 0) {
        const stop = Math.min(held + left, PAGE_SIZE);
        block.fill(0, held, stop);
        left -= stop - held;
        held = stop;
        if (held === PAGE_SIZE) emitHeldBlock(sink);
      }
      const rest = left % PAGE_SIZE;
      zeros += left - rest;
      if (zeros > 0) sink.zero(zeros);
      if (rest > 0) {
        block.fill(0, 0, rest);
        held = rest;
      }
    },

    flush,

    restart(sink) {
      flush(sink);
      passing = 0;
    },
  };
}
