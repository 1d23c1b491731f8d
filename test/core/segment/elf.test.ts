import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { elfFormat } from "../../../core/segment/elf.ts";
import { rawFormat } from "../../../core/segment/raw.ts";
import { NO_KEY } from "../../../core/segment/segmenter.ts";
import { core, coreHeaders, FILE_HEADER, PROGRAM_HEADER } from "../../support/elf-core.ts";
import { createRecorder, type Recording, same, segment } from "./recorder.ts";

const PAGE = 4096;

/** Pages by letter: `z` of zeros, any other letter filled with it. */
function memory(pages: string, tail = 0): Buffer {
  const letters = Array.from(pages, (letter) => Buffer.alloc(PAGE, letter === "z" ? 0 : letter));
  return Buffer.concat([...letters, Buffer.alloc(tail, "tail")]);
}

/** What is in the chunks of a recording, in order. */
const contents = ({ bytes, segments }: Recording) =>
  segments.flatMap((one) => ("key" in one ? [bytes.toString("latin1", one.offset, one.offset + PAGE)] : []));

/** The chunks and zeros that `raw` finds in a part of a file, as they lie in the whole file. */
const asRaw = (bytes: Buffer, at: number) =>
  segment(rawFormat.create(), bytes).segments.map((one) => ({ ...one, offset: one.offset + at }));

const elf = (bytes: Uint8Array, cuts?: readonly number[], flushAfter?: (piece: number) => boolean) =>
  segment(elfFormat.create(), bytes, cuts, flushAfter);

const lengths = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 9000 }), fc.constantFrom(55, 56, 64, 4095, 4096)),
  { minLength: 1, maxLength: 40 },
);
const part = fc.record({
  gap: fc.oneof(fc.constant(0), fc.nat(200), fc.nat(5000)),
  memory: fc
    .tuple(fc.array(fc.constantFrom("a", "b", "c", "z"), { maxLength: 5 }), fc.constantFrom(0, 0, 1, 777))
    .filter(([pages, tail]) => pages.length + tail > 0)
    .map(([pages, tail]) => memory(pages.join(""), tail)),
});
const cores = fc
  .tuple(fc.array(part, { minLength: 1, maxLength: 5 }), fc.nat(6000), fc.infiniteStream(fc.nat()))
  .map(([parts, tail, numbers]) => {
    const order = parts.map((_, i) => i);
    const rank = order.map(() => numbers.next().value as number);
    return {
      parts,
      ...core(
        parts,
        tail,
        order.toSorted((a, b) => rank[a]! - rank[b]!),
      ),
    };
  });

describe("a core", () => {
  test("is told by class, byte order and type", () => {
    const head = coreHeaders([]);
    const changed = (at: number, value: number) => {
      const copy = Uint8Array.from(head);
      copy[at] = value;
      return elfFormat.matches?.(copy);
    };
    expect(elfFormat.matches?.(head)).toBe(true);
    expect(elfFormat.matches?.(Uint8Array.from(head.subarray(0, 18)))).toBe(true);
    expect(elfFormat.matches?.(head.subarray(0, 17))).toBe(false);
    expect(elfFormat.matches?.(Buffer.alloc(0))).toBe(false);
    for (const [at, value] of [
      [0, 0x7e],
      [3, 0],
      [4, 1],
      [5, 2],
      [16, 3],
      [17, 4],
    ] as const) {
      expect(changed(at, value)).toBe(false);
    }
  });

  test("has the same chunks as its memory alone, wherever they lie in the file", () => {
    const ram = memory("abzzcab");
    const { bytes, offsets } = core([{ gap: 1001, memory: ram }], 300);
    const [at] = offsets as [number];
    expect(at % PAGE).not.toBe(0);
    const found = elf(bytes);
    expect(found.segments).toEqual(asRaw(ram, at) as typeof found.segments);
    expect(contents(found)).toEqual(contents(segment(rawFormat.create(), ram)));
    expect(same(found.bytes, bytes)).toBe(true);
    // Aligned to the file, pages that are alike are not.
    expect(contents(segment(rawFormat.create(), bytes))).not.toContain(ram.toString("latin1", 0, PAGE));
  });

  test("has the chunks of each region, aligned to it, and no others", () => {
    fc.assert(
      fc.property(cores, lengths, ({ parts, bytes, offsets }, cuts) => {
        const whole = elf(bytes);
        const expected = parts.flatMap(({ memory }, i) => asRaw(memory, offsets[i]!));
        // Zeros of adjacent regions may be told apart or not.
        const pages = ({ segments }: Pick<Recording, "segments">) =>
          segments.flatMap((one): object[] => {
            if ("key" in one) return [one];
            return Array.from({ length: one.zeros / PAGE }, (_, i) => ({ zeroPage: one.offset + i * PAGE }));
          });
        expect(pages(whole)).toEqual(pages({ segments: expected }));
        const many = elf(bytes, cuts);
        expect(pages(many)).toEqual(pages(whole));
        expect([same(whole.bytes, bytes), same(many.bytes, bytes)]).toEqual([true, true]);
      }),
      { numRuns: 200 },
    );
  });

  test("loses to flushes at most the pages that they cut", () => {
    fc.assert(
      fc.property(cores, lengths, fc.array(fc.boolean(), { minLength: 1 }), ({ bytes }, cuts, flushes) => {
        const flushedAt: number[] = [];
        let at = 0;
        const found = elf(bytes, cuts, (piece) => {
          at += cuts[piece % cuts.length]!;
          if (!flushes[piece % flushes.length]) return false;
          flushedAt.push(Math.min(at, bytes.length));
          return true;
        });
        const chunks = ({ segments }: Recording) => segments.filter((one) => "key" in one);
        const isCut = (offset: number) => flushedAt.some((flush) => flush > offset && flush < offset + PAGE);
        expect(same(found.bytes, bytes)).toBe(true);
        expect(chunks(found)).toEqual(chunks(elf(bytes)).filter(({ offset }) => !isCut(offset)));
      }),
      { numRuns: 100 },
    );
  });

  test("gives holes of any size as zeros, in regions and outside", () => {
    const size = 2 ** 40 + 4 * PAGE;
    const at = FILE_HEADER + 2 * PROGRAM_HEADER + 10;
    const head = coreHeaders([
      { offset: at, size },
      { offset: at + size + 5 * PAGE, size: PAGE },
    ]);
    const recorder = createRecorder();
    const zeros: number[] = [];
    const sink = { ...recorder.sink, zero: (length: number) => void zeros.push(length) };
    const segmenter = elfFormat.create();
    const push = (bytes: Buffer) => segmenter.push(bytes, 0, bytes.length, sink);
    push(head);
    push(Buffer.concat([Buffer.alloc(10, 1), memory("ab"), Buffer.alloc(100, 3)]));
    segmenter.pushZeros?.(size - 2 * PAGE - 100 + 5 * PAGE, sink);
    push(memory("a"));
    segmenter.flush(sink);
    expect(zeros).toEqual([2 ** 40 + PAGE, 5 * PAGE]);
    expect(recorder.end().segments.length).toBe(4);
    expect(same(recorder.end().bytes.subarray(-PAGE), memory("a"))).toBe(true);
  });

  test("that is mapped twice, or named in parts, has its pages once", () => {
    const table = FILE_HEADER + 4 * PROGRAM_HEADER;
    const ram = memory("abcdef");
    const loads = [
      { offset: table + 2 * PAGE, size: 2 * PAGE },
      { offset: table, size: 3 * PAGE },
      { offset: table + 4 * PAGE, size: 2 * PAGE },
      { offset: table + 2 * PAGE, size: PAGE },
    ];
    const bytes = Buffer.concat([coreHeaders(loads), ram]);
    expect(elf(bytes).segments).toEqual(asRaw(ram, table) as Recording["segments"]);
  });

  test("a part of which ends within a page has that page if another has", () => {
    const table = FILE_HEADER + 2 * PROGRAM_HEADER;
    const loads = [PAGE + 100, 3 * PAGE].map((size) => ({ offset: table, size }));
    const ram = memory("abc");
    expect(elf(Buffer.concat([coreHeaders(loads), ram])).segments).toEqual(asRaw(ram, table) as Recording["segments"]);
  });

  test("may have its table of regions 64 KiB further, and not beyond", () => {
    const found = [65_536, 65_537].map((tableOffset) => {
      const at = tableOffset + PROGRAM_HEADER + 3;
      const headers = coreHeaders([{ offset: at, size: 2 * PAGE }], { tableOffset });
      const table = headers.subarray(FILE_HEADER);
      const gap = Buffer.alloc(tableOffset - FILE_HEADER, "gap");
      const bytes = Buffer.concat([headers.subarray(0, FILE_HEADER), gap, table, Buffer.alloc(3), memory("ab")]);
      return elf(bytes).segments.map(({ offset }) => offset - at);
    });
    expect(found[0]?.slice(-2)).toEqual([0, PAGE]);
    expect(found[1]).not.toContain(0);
  });

  test("whose regions overlap askew keeps the first whole and what lies behind it of the second", () => {
    const table = FILE_HEADER + 2 * PROGRAM_HEADER;
    const loads = [
      { offset: table, size: 2 * PAGE },
      { offset: table + 100, size: 4 * PAGE },
    ];
    const bytes = Buffer.concat([coreHeaders(loads), memory("abcde")]);
    const chunk = (offset: number) => ({ key: NO_KEY, offset });
    expect(elf(bytes).segments).toEqual([0, 1, 2, 3].map((i) => chunk(table + i * PAGE + (i > 1 ? 100 : 0))));
  });
});

describe("headers that make no sense", () => {
  const load = { offset: FILE_HEADER + PROGRAM_HEADER + 3, size: 2 * PAGE };
  const other = Buffer.from(coreHeaders([load]));
  other[4] = 1;
  // The header itself, taken for a table, names a region from 4 GiB on.
  const within = coreHeaders([load], { tableOffset: 8 });
  within[8] = 1;
  within[40] = 1;
  const uncounted = coreHeaders([{ offset: 3_700_003, size: 2 * PAGE }], { count: 0xffff });
  test.each([
    ["no memory", coreHeaders([])],
    ["notes only", coreHeaders([{ type: 4, ...load }])],
    ["another class", other],
    ["a table far away", coreHeaders([load], { tableOffset: 65_537 })],
    ["a table at the end of numbers", coreHeaders([load], { tableOffset: 2n ** 64n - 1n })],
    ["a table in the header", within],
    ["entries of another size", coreHeaders([load], { entrySize: 64 })],
    ["more entries than can be counted", Buffer.concat([uncounted, Buffer.alloc(3_700_000, "more")])],
    [
      "regions beyond numbers",
      coreHeaders([
        { offset: 2n ** 53n, size: 1 },
        { offset: 1, size: 2n ** 64n - 1n },
      ]),
    ],
    ["regions in the headers", coreHeaders([{ offset: 0, size: 100 }])],
  ])("%s: cut as raw", (_, head) => {
    const bytes = Buffer.concat([head, memory("azzb", 99)]);
    for (const cuts of [[bytes.length], [bytes.length > 2 ** 20 ? 1001 : 1], [50, 5000]]) {
      const found = elf(bytes, cuts);
      expect(found.segments).toEqual(segment(rawFormat.create(), bytes, cuts).segments as typeof found.segments);
      expect(same(found.bytes, bytes)).toBe(true);
    }
  });

  test("a hole where headers should be: cut as raw", () => {
    const cut = (format: typeof elfFormat) => {
      const recorder = createRecorder();
      const segmenter = format.create();
      const first = FILE_HEADER + PROGRAM_HEADER;
      const head = coreHeaders([{ offset: 50_003, size: 3 * PAGE }, load]);
      segmenter.push(head, 0, first, recorder.sink);
      segmenter.pushZeros?.(10 * PAGE, recorder.sink);
      segmenter.push(head, first, head.length, recorder.sink);
      segmenter.push(memory("abcdef"), 0, 6 * PAGE, recorder.sink);
      segmenter.flush(recorder.sink);
      return recorder.end();
    };
    const found = cut(elfFormat);
    expect(found).toEqual({ ...cut(rawFormat), bytes: found.bytes });
    expect(same(found.bytes, cut(rawFormat).bytes)).toBe(true);
  });

  test("or any other: the output is the input, however bytes, holes and flushes come", () => {
    const number = fc.oneof(fc.nat(300), fc.nat(40_000), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    const header = fc.record({ type: fc.constantFrom(1, 1, 1, 4), offset: number, size: number });
    const heads = fc.oneof(
      fc.array(header, { maxLength: 12 }).map((headers) => coreHeaders(headers)),
      fc
        .tuple(fc.array(header, { maxLength: 5 }), number, fc.nat(0xffff))
        .map(([headers, tableOffset, count]) => coreHeaders(headers, { tableOffset, count })),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    );
    const step = fc.record({
      kind: fc.constantFrom("bytes", "bytes", "hole", "flush"),
      length: fc.oneof(fc.nat(100), fc.nat(3 * PAGE)),
      fill: fc.nat(2),
    });
    fc.assert(
      fc.property(heads, lengths, fc.array(step, { maxLength: 12 }), (head, cuts, steps) => {
        const recorder = createRecorder();
        const segmenter = elfFormat.create();
        const input: Buffer[] = [];
        const push = (bytes: Buffer) => {
          segmenter.push(bytes, 0, bytes.length, recorder.sink);
          input.push(bytes);
        };
        for (let at = 0, i = 0; at < head.length; at += cuts[i++ % cuts.length]!) {
          push(head.subarray(at, at + cuts[i % cuts.length]!));
        }
        for (const { kind, length, fill } of steps) {
          if (kind === "bytes") push(Buffer.alloc(length, fill));
          else if (kind === "flush") segmenter.flush(recorder.sink);
          else {
            segmenter.pushZeros?.(length, recorder.sink);
            input.push(Buffer.alloc(length));
          }
        }
        segmenter.flush(recorder.sink);
        expect(same(recorder.end().bytes, Buffer.concat(input))).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test("65,534 of them are read, in any pieces", () => {
    const count = 65_534;
    const table = FILE_HEADER + count * PROGRAM_HEADER;
    // Each names every other page, from the last to the first.
    const loads = Array.from({ length: count }, (_, i) => ({
      offset: table + 7 + (count - 1 - i) * 2 * PAGE,
      size: PAGE,
    }));
    const bytes = Buffer.concat([coreHeaders(loads), Buffer.alloc(7), memory("abcd")]);
    const chunks = elf(bytes, [1_000_003]).segments.filter(({ offset }) => offset >= table);
    expect(chunks).toEqual([table + 7, table + 7 + 2 * PAGE].map((offset) => ({ key: NO_KEY, offset })));
  });
});
