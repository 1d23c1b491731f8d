import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createQemuSegmenter } from "../../../core/segment/qemu.ts";
import { qemuStreamBytes } from "../../support/qemu-stream.ts";
import { createRecorder, same, segment } from "./recorder.ts";

/** Small streams, so that many ways to cut them can be tried. */
const options = fc.record({
  seed: fc.nat(1000),
  blocks: fc.constantFrom(
    [{ name: "ram", length: 12 * 4096 }],
    [
      { name: "a", length: 5 * 4096 },
      { name: "a-long-name-of-a-block".repeat(11), length: 2 ** 33, firstPage: 2 ** 20 - 2, pages: 5 },
    ],
  ),
  rounds: fc.integer({ min: 1, max: 3 }),
  dirtyShare: fc.constantFrom(0, 0.3, 1),
  zeroShare: fc.constantFrom(0, 0.5, 1),
  postcopy: fc.boolean(),
  deviceBytes: fc.constantFrom(0, 300),
  descriptionBytes: fc.constantFrom(0, 300),
});

const lengths = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 9000 }), fc.constantFrom(4095, 4096, 4104)),
  { minLength: 1, maxLength: 40 },
);

describe("any pieces", () => {
  test("give the same segments", () => {
    fc.assert(
      fc.property(options, lengths, (chosen, cuts) => {
        const expected: number[] = [];
        const stream = qemuStreamBytes({ ...chosen, onRecord: (key, isPage) => void (isPage && expected.push(key)) });
        const whole = createQemuSegmenter();
        const pieces = createQemuSegmenter();
        const one = segment(whole, stream);
        const many = segment(pieces, stream, cuts);
        expect(same(many.bytes, stream)).toBe(true);
        expect(one.segments.map((each) => "key" in each && each.key)).toEqual(expected);
        expect(many.segments).toEqual(one.segments as typeof many.segments);
        expect(pieces.statistics()).toEqual(whole.statistics());
      }),
      { numRuns: 150 },
    );
  });

  test("and flushes between them lose at most the pages that they cut", () => {
    fc.assert(
      fc.property(options, lengths, fc.array(fc.boolean(), { minLength: 1 }), (chosen, cuts, flushes) => {
        const stream = qemuStreamBytes(chosen);
        const whole = createQemuSegmenter();
        const pieces = createQemuSegmenter();
        const flushedAt = new Set<number>();
        let at = 0;
        const flushAfter = (piece: number) => {
          at += cuts[piece % cuts.length] as number;
          if (flushes[piece % flushes.length]) flushedAt.add(Math.min(at, stream.length));
          return flushes[piece % flushes.length] === true;
        };
        const { segments } = segment(whole, stream);
        const many = segment(pieces, stream, cuts, flushAfter);
        expect(same(many.bytes, stream)).toBe(true);
        const cut = (offset: number) => [...flushedAt].some((flush) => flush > offset && flush < offset + 4096);
        expect(many.segments).toEqual(segments.filter(({ offset }) => !cut(offset)) as typeof many.segments);
        expect(pieces.statistics()).toEqual(whole.statistics());
      }),
      { numRuns: 100 },
    );
  });
});

describe("any input comes out as it went in", () => {
  test("random bytes, with and without a valid head", () => {
    const head = Buffer.from("5145564d00000003", "hex");
    const ram = Buffer.concat([head, Buffer.from("\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04", "latin1")]);
    fc.assert(
      fc.property(
        fc.constantFrom(Buffer.alloc(0), head, ram),
        fc.uint8Array({ maxLength: 400 }),
        lengths,
        (start, bytes, cuts) => {
          const input = Buffer.concat([start, bytes]);
          expect(same(segment(createQemuSegmenter(), input, cuts).bytes, input)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("RAM records of any flags, in any order", () => {
    const flags = fc.constantFrom(
      0x02,
      0x04,
      0x08,
      0x10,
      0x20,
      0x22,
      0x28,
      0x40,
      0x60,
      0x80,
      0x100,
      0x120,
      0x200,
      0x0a,
    );
    const record = fc.tuple(fc.uint8Array({ minLength: 6, maxLength: 6 }), flags, fc.uint8Array({ maxLength: 40 }));
    fc.assert(
      fc.property(fc.array(record, { maxLength: 30 }), lengths, (records, cuts) => {
        const parts = [Buffer.from("QEVM\0\0\0\x03\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04", "latin1")];
        for (const [address, flag, data] of records) {
          parts.push(Buffer.from([...address, flag >> 8, flag & 0xff, ...data]));
        }
        const input = Buffer.concat(parts);
        const whole = segment(createQemuSegmenter(), input);
        const pieces = segment(createQemuSegmenter(), input, cuts);
        expect(same(whole.bytes, input)).toBe(true);
        expect(same(pieces.bytes, input)).toBe(true);
        expect(pieces.segments).toEqual(whole.segments as typeof pieces.segments);
      }),
      { numRuns: 500 },
    );
  });

  test("streams that end early or have flipped bits", () => {
    fc.assert(
      fc.property(options, fc.array(fc.nat(), { maxLength: 8 }), fc.nat(), lengths, (chosen, flips, stop, cuts) => {
        const stream = qemuStreamBytes(chosen);
        // Half of the flips hit the head, where most of the structure is.
        for (const [i, flip] of flips.entries()) {
          const at = flip % (i % 2 ? stream.length : 200);
          stream[at] = (stream[at] as number) ^ (1 << (flip % 8));
        }
        const input = stream.subarray(0, stop % 3 === 0 ? stop % stream.length : stream.length);
        expect(same(segment(createQemuSegmenter(), input, cuts).bytes, input)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test("an empty push and a flush at any time do nothing", () => {
    const recorder = createRecorder();
    const segmenter = createQemuSegmenter();
    segmenter.push(Buffer.alloc(0), 0, 0, recorder.sink);
    segmenter.flush(recorder.sink);
    segmenter.flush(recorder.sink);
    expect(recorder.length()).toBe(0);
  });
});
