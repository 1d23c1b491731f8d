import { createBlockCutter } from "./blocks.ts";
import { createHeaderReader, isCore } from "./elf/headers.ts";
import { arrangeRegions, type Region } from "./elf/regions.ts";
import type { Segmenter, SegmentFormat, SegmentSink } from "./segmenter.ts";

/**
 * A 64-bit ELF core: QEMU's `dump-guest-memory`, gcore, the kernel's own. Each region of memory is cut into blocks from
 * where it begins, as its offset in the file need not be that of a page; the rest is literals. A file whose headers make
 * no sense is cut as `raw` is.
 */
export const elfFormat: SegmentFormat = {
  name: "elf",
  keyed: false,
  matches: (head) => isCore(Buffer.from(head.buffer, head.byteOffset, head.byteLength)),
  create: createElfSegmenter,
};

function createElfSegmenter(): Segmenter {
  const blocks = createBlockCutter();
  const headers = createHeaderReader();
  let regions: readonly Region[] = [];
  let nextRegion = 0;
  /** Bytes of the stream so far. */
  let offset = 0;
  /** Whether what comes is cut into blocks, and up to where in the stream. */
  let cutting = true;
  let boundary = Number.POSITIVE_INFINITY;

  /** At a boundary: what comes is the next region, or what is before it. */
  function turn(sink: SegmentSink): void {
    if (cutting) blocks.restart(sink);
    const region = regions[nextRegion];
    cutting = region !== undefined && region.start === offset;
    if (cutting) nextRegion++;
    boundary = (cutting ? region?.end : region?.start) ?? Number.POSITIVE_INFINITY;
  }

  function readHeaders(bytes: Uint8Array, start: number, end: number, sink: SegmentSink): number {
    const stop = headers.push(bytes, start, end);
    blocks.push(bytes, start, stop, sink);
    offset += stop - start;
    if (headers.reading) return stop;
    regions = arrangeRegions(headers.loads, offset);
    if (regions.length > 0) turn(sink);
    return stop;
  }

  return {
    push(bytes, start, end, sink) {
      let at = headers.reading ? readHeaders(bytes, start, end, sink) : start;
      while (at < end) {
        const stop = Math.min(end, at + boundary - offset);
        if (cutting) blocks.push(bytes, at, stop, sink);
        else sink.literal(bytes, at, stop);
        offset += stop - at;
        at = stop;
        if (offset === boundary) turn(sink);
      }
    },

    pushZeros(length, sink) {
      // Headers have no holes.
      if (headers.reading && length > 0) headers.abandon();
      for (let left = length; left > 0; ) {
        const part = Math.min(left, boundary - offset);
        if (cutting) blocks.pushZeros(part, sink);
        else sink.zero(part);
        offset += part;
        left -= part;
        if (offset === boundary) turn(sink);
      }
    },

    flush(sink) {
      blocks.flush(sink);
    },
  };
}
