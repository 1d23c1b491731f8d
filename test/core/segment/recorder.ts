import { MAX_HELD, type Segmenter, type SegmentSink } from "../../../core/segment/segmenter.ts";

/** What a segmenter emitted: pages and zeros in order, and everything concatenated. */
export interface Recording {
  readonly bytes: Buffer;
  /** One a chunk or zero: a chunk's key and where in the stream it is, or a zero's length. */
  readonly segments: readonly (
    | { readonly key: number; readonly offset: number }
    | { readonly zeros: number; readonly offset: number }
  )[];
  /** How many literals there were. */
  readonly literals: number;
}

/** A sink that copies what it is lent, and throws where a call breaks the interface's promises. */
export function createRecorder(): { readonly sink: SegmentSink; readonly length: () => number; end(): Recording } {
  const parts: Buffer[] = [];
  const segments: Recording["segments"][number][] = [];
  let offset = 0;
  let literals = 0;
  function take(part: Buffer): void {
    parts.push(part);
    offset += part.length;
  }
  return {
    length: () => offset,
    sink: {
      literal(bytes, start, end) {
        if (!(0 <= start && start < end && end <= bytes.length)) throw new Error(`literal [${start}, ${end})`);
        literals++;
        take(Buffer.from(bytes.subarray(start, end)));
      },
      chunk(bytes, start, key) {
        if (!(0 <= start && start + 4096 <= bytes.length)) throw new Error(`chunk at ${start} of ${bytes.length}`);
        if (!Number.isSafeInteger(key) || key < -1) throw new Error(`key ${key}`);
        segments.push({ key, offset });
        take(Buffer.from(bytes.subarray(start, start + 4096)));
      },
      zero(length) {
        if (!Number.isSafeInteger(length) || length <= 0) throw new Error(`zero ${length}`);
        segments.push({ zeros: length, offset });
        take(Buffer.alloc(length));
      },
    },
    end: () => ({ bytes: Buffer.concat(parts), segments, literals }),
  };
}

/**
 * Pushes `bytes` in pieces of the given lengths, in turn, each in a buffer that is overwritten afterwards, and flushes
 * after those pieces for which `flushAfter` says so, and at the end. Throws where more is held back than allowed.
 */
export function segment(
  segmenter: Segmenter,
  bytes: Uint8Array,
  lengths: readonly number[] = [bytes.length],
  flushAfter: (piece: number) => boolean = () => false,
): Recording {
  const recorder = createRecorder();
  for (let at = 0, piece = 0; at < bytes.length; piece++) {
    const length = Math.min(Math.max(lengths[piece % lengths.length] ?? 1, 1), bytes.length - at);
    const lent = Buffer.alloc(length + 20, 0xee);
    lent.set(bytes.subarray(at, at + length), 10);
    segmenter.push(lent, 10, 10 + length, recorder.sink);
    lent.fill(0xdd);
    at += length;
    if (at - recorder.length() >= MAX_HELD) throw new Error(`${at - recorder.length()} bytes are held back`);
    if (!flushAfter(piece)) continue;
    segmenter.flush(recorder.sink);
    if (recorder.length() !== at) throw new Error(`flush left ${at - recorder.length()} bytes behind`);
  }
  segmenter.flush(recorder.sink);
  return recorder.end();
}

export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
