import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { rawFormat } from "../../../core/segment/raw.ts";
import { NO_KEY } from "../../../core/segment/segmenter.ts";
import { createRecorder, same, segment } from "./recorder.ts";

const PAGE = 4096;

/** Pages by letter: `z` of zeros, any other letter filled with it. */
function image(pages: string, tail = 0): Buffer {
  return Buffer.concat([
    ...Array.from(pages, (letter) => Buffer.alloc(PAGE, letter === "z" ? 0 : letter)),
    Buffer.alloc(tail, "t"),
  ]);
}

describe("raw", () => {
  test("cuts blocks aligned to the start, and joins zeros", () => {
    const bytes = image("azzzb", 100);
    const { segments, literals, bytes: out } = segment(rawFormat.create(), bytes);
    expect(segments).toEqual([
      { key: NO_KEY, offset: 0 },
      { zeros: 3 * PAGE, offset: PAGE },
      { key: NO_KEY, offset: 4 * PAGE },
    ]);
    expect(literals).toBe(1);
    expect(same(out, bytes)).toBe(true);
  });

  test("cuts the same blocks however the bytes arrive", () => {
    const bytes = image("abzc", 7);
    for (const length of [1, 4095, 4096, 4097, 10_000]) {
      const { segments, bytes: out } = segment(rawFormat.create(), bytes, [length]);
      expect(segments).toEqual([
        { key: NO_KEY, offset: 0 },
        { key: NO_KEY, offset: PAGE },
        { zeros: PAGE, offset: 2 * PAGE },
        { key: NO_KEY, offset: 3 * PAGE },
      ]);
      expect(same(out, bytes)).toBe(true);
    }
  });

  test("a page differing from zeros in any one byte is a chunk", () => {
    for (let i = 0; i < PAGE; i++) {
      const bytes = Buffer.alloc(PAGE);
      bytes[i] = 1;
      expect(segment(rawFormat.create(), bytes).segments).toEqual([{ key: NO_KEY, offset: 0 }]);
    }
  });

  test("stays aligned after a flush in the middle of a block", () => {
    const bytes = image("abzc");
    const { segments, bytes: out } = segment(rawFormat.create(), bytes, [100, 50_000], (piece) => piece === 0);
    expect(segments).toEqual([
      { key: NO_KEY, offset: PAGE },
      { zeros: PAGE, offset: 2 * PAGE },
      { key: NO_KEY, offset: 3 * PAGE },
    ]);
    expect(same(out, bytes)).toBe(true);
  });

  test("a hole that ends a block and begins another keeps the alignment", () => {
    const recorder = createRecorder();
    const segmenter = rawFormat.create();
    segmenter.push(Buffer.alloc(10, 1), 0, 10, recorder.sink);
    segmenter.pushZeros?.(3 * PAGE, recorder.sink);
    segmenter.push(Buffer.alloc(2 * PAGE, 2), 0, 2 * PAGE, recorder.sink);
    segmenter.flush(recorder.sink);
    const { segments, bytes } = recorder.end();
    expect(segments).toEqual([
      { key: NO_KEY, offset: 0 },
      { zeros: 2 * PAGE, offset: PAGE },
      { key: NO_KEY, offset: 3 * PAGE },
      { key: NO_KEY, offset: 4 * PAGE },
    ]);
    expect(same(bytes, Buffer.concat([Buffer.alloc(10, 1), Buffer.alloc(3 * PAGE), Buffer.alloc(2 * PAGE, 2)]))).toBe(
      true,
    );
  });

  test("a hole of petabytes is one call", () => {
    const calls: number[] = [];
    const segmenter = rawFormat.create();
    const sink = { literal() {}, chunk() {}, zero: (length: number) => void calls.push(length) };
    segmenter.pushZeros?.(Number.MAX_SAFE_INTEGER, sink);
    expect(calls).toEqual([Number.MAX_SAFE_INTEGER - (PAGE - 1)]);
  });

  test("whatever bytes, holes and flushes come, the output is the input and blocks are aligned", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("bytes" as const), length: fc.nat(3 * PAGE), fill: fc.nat(2) }),
      fc.record({ kind: fc.constant("hole" as const), length: fc.nat(3 * PAGE), fill: fc.constant(0) }),
      fc.record({ kind: fc.constant("flush" as const), length: fc.constant(0), fill: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const recorder = createRecorder();
        const segmenter = rawFormat.create();
        const input: Buffer[] = [];
        let length = 0;
        for (const { kind, length: size, fill } of steps) {
          const bytes = Buffer.alloc(size, fill);
          if (kind === "bytes") segmenter.push(bytes, 0, size, recorder.sink);
          else if (kind === "hole") segmenter.pushZeros?.(size, recorder.sink);
          else segmenter.flush(recorder.sink);
          input.push(bytes);
          length += size;
          expect(length - recorder.length()).toBeLessThan(PAGE);
        }
        segmenter.flush(recorder.sink);
        const { bytes, segments } = recorder.end();
        expect(same(bytes, Buffer.concat(input))).toBe(true);
        for (const one of segments) if ("key" in one) expect(one.offset % PAGE).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
