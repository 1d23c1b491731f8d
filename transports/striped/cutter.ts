import { SEGMENT_HEADER_BYTES, writeSegmentHeader } from "./format.ts";

/** Long enough that headers and system calls cost little, short enough that a frame goes over many connections at once. */
export const SEGMENT_BYTES = 64 << 10;

/** Cuts buffers into segments of at most `most` bytes, as views of them. */
export function* cutSegments(buffers: readonly Uint8Array[], most: number): Generator<readonly Uint8Array[]> {
  let segment: Uint8Array[] = [];
  let room = most;
  for (const buffer of buffers) {
    for (let start = 0; start < buffer.length; ) {
      const view = buffer.subarray(start, start + room);
      segment.push(view);
      start += view.length;
      room -= view.length;
      if (room > 0) continue;
      yield segment;
      segment = [];
      room = most;
    }
  }
  if (segment.length > 0) yield segment;
}

/** Copies a segment behind its header. Returns how many bytes both have. */
export function fillSegment(into: Buffer, segment: readonly Uint8Array[], number: number): number {
  let at = SEGMENT_HEADER_BYTES;
  for (const part of segment) {
    into.set(part, at);
    at += part.length;
  }
  writeSegmentHeader(into, at - SEGMENT_HEADER_BYTES, number);
  return at;
}
