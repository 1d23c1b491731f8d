import type { Segmenter, SegmentFormat } from "./segmenter.ts";

/** A stream of which nothing is known, such as a duplex protocol: everything is a literal, and nothing is ever held back. */
export const bytesFormat: SegmentFormat = { name: "bytes", keyed: false, create: createBytesSegmenter };

function createBytesSegmenter(): Segmenter {
  return {
    push(bytes, start, end, sink) {
      if (start < end) sink.literal(bytes, start, end);
    },
    // A hole is known to be zeros whatever the format, and reading it as bytes would only cost time.
    pushZeros(length, sink) {
      if (length > 0) sink.zero(length);
    },
    flush() {},
  };
}
