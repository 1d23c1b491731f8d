import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ProtocolError } from "../../../core/errors.ts";
import { OP } from "../../../core/wire/numbers.ts";
import { OpReader, OpWriter } from "../../../core/wire/ops.ts";

/** One operation as a test writes it: a code, and a length, number or base where the code has one. */
type Op = readonly [code: number, argument: number];

const MOST = 4096;
const CONTENTS: readonly number[] = [OP.NEW, OP.STORED, OP.KNOWN];

function write(first: number, ops: readonly Op[], writer = new OpWriter(MOST)): { ops: Buffer; args: Buffer } {
  writer.reset(first);
  for (const [code, argument] of ops) {
    if (code === OP.LITERAL) writer.literal(argument);
    else if (code === OP.ZERO) writer.zero(argument);
    else if (code === OP.REF) writer.ref(argument);
    else if (code === OP.DELTA) writer.delta(argument);
    else if (code === OP.PAST) writer.past(argument);
    else writer.content(code);
  }
  writer.finish();
  return { ops: Buffer.from(writer.ops), args: Buffer.from(writer.args) };
}

/** What a reader finds, one entry a content; at most `most` of them, as a run may claim any length. */
function read(first: number, ops: Uint8Array, args: Uint8Array, most = MOST): Op[] {
  const reader = new OpReader(ops, args, first);
  const found: Op[] = [];
  while (reader.next()) {
    const { code, run, argument } = reader;
    expect(Number.isInteger(run) && run >= 1).toBe(true);
    expect(Number.isFinite(argument)).toBe(true);
    for (let i = 0; i < run && found.length < most; i++) {
      if (code === OP.REF || code === OP.PAST) found.push([code, argument + i]);
      else if (code === OP.SAME) found.push([OP.REF, argument]);
      else found.push([code, CONTENTS.includes(code) ? 0 : argument]);
    }
  }
  return found;
}

const number = fc.oneof(fc.nat(40), fc.integer({ min: 0, max: 0xffff_fffd }));
const length = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }));
const op: fc.Arbitrary<Op[]> = fc.oneof(
  fc.tuple(fc.constantFrom(OP.LITERAL, OP.ZERO), length).map((op) => [op]),
  fc.tuple(fc.constant(OP.DELTA), number).map((op) => [op]),
  // Runs of contents, of consecutive references, and of the same one.
  fc
    .tuple(fc.constantFrom(...CONTENTS), fc.integer({ min: 1, max: 40 }))
    .map(([code, run]) => Array.from({ length: run }, () => [code, 0] as const)),
  fc
    .tuple(number, fc.integer({ min: 1, max: 40 }), fc.constantFrom(0, 1))
    .map(([start, run, stride]) => Array.from({ length: run }, (_, i) => [OP.REF, start + i * stride] as const)),
  fc
    .tuple(number, fc.integer({ min: 1, max: 40 }))
    .map(([start, run]) => Array.from({ length: run }, (_, i) => [OP.PAST, start + i] as const)),
);
const sequence = fc.array(op, { maxLength: 60 }).map((runs) => runs.flat().slice(0, MOST));

describe("operations", () => {
  test("any sequence that is written is read", () => {
    // One writer for all: nothing of a batch may show in the next.
    const writer = new OpWriter(MOST);
    fc.assert(
      fc.property(number, sequence, (first, written) => {
        const { ops, args } = write(first, written, writer);
        expect(read(first, ops, args)).toEqual(written);
      }),
      { numRuns: 300 },
    );
  });

  test("a run is one operation, and what is expected costs one byte", () => {
    const refs = Array.from({ length: 200 }, (_, i) => [OP.REF, 50 + i] as const);
    const { ops, args } = write(50, refs);
    expect([...ops]).toEqual([OP.REF | (15 << 4)]);
    // 200 - 16 = 184, in two bytes, and the distance 0 from the number that was expected.
    expect([...args]).toEqual([0xb8, 0x01, 0x00]);
    expect([...write(9, [...refs.slice(0, 3), [OP.REF, 53]]).args]).toEqual([82]);
    expect([
      ...write(
        0,
        Array.from({ length: 16 }, () => [OP.NEW, 0] as const),
      ).args,
    ]).toEqual([0]);
    expect([
      ...write(
        0,
        Array.from({ length: 15 }, () => [OP.NEW, 0] as const),
      ).ops,
    ]).toEqual([OP.NEW | (14 << 4)]);
  });

  test("a pair of equal references becomes SAME, an ascending one REF", () => {
    expect([...write(10, [ref(3), ref(3), ref(3)]).ops]).toEqual([OP.SAME | (2 << 4)]);
    expect([...write(10, [ref(3), ref(4)]).ops]).toEqual([OP.REF | (1 << 4)]);
    expect([...write(10, [ref(3), ref(3), ref(4)]).ops]).toEqual([OP.SAME | (1 << 4), OP.REF]);
    expect([...write(10, [ref(4), ref(3)]).ops]).toEqual([OP.REF, OP.REF]);
  });

  test("the largest operations fit the writer's buffers", () => {
    const most = 64;
    const written = Array.from({ length: most }, (_, i) => [OP.LITERAL, Number.MAX_SAFE_INTEGER - i] as const);
    const { ops, args } = write(0, written, new OpWriter(most));
    expect(read(0, ops, args)).toEqual(written);
  });

  test("random bytes are read or refused, and never hang", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.uint8Array({ maxLength: 1200 }), number, (ops, args, first) => {
        expectOnlyProtocolErrors(() => read(first, ops, args));
      }),
      { numRuns: 500 },
    );
  });

  test("a changed byte is read or refused", () => {
    fc.assert(
      fc.property(number, sequence, fc.nat(), fc.integer({ min: 1, max: 255 }), (first, written, at, flip) => {
        const columns = write(first, written);
        const all = Buffer.concat([columns.ops, columns.args]);
        if (all.length === 0) return;
        all[at % all.length]! ^= flip;
        const cut = columns.ops.length;
        expectOnlyProtocolErrors(() => read(first, all.subarray(0, cut), all.subarray(cut)));
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ["an unknown code", [8], []],
    ["a code without its argument", [OP.LITERAL], []],
    ["an argument that does not end", [OP.ZERO], [0x80]],
    ["an argument of nine bytes", [OP.ZERO], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]],
    ["an argument above 2^53", [OP.ZERO], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    ["an argument of 2^53", [OP.ZERO], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]],
    ["an argument left over", [OP.NEW], [0]],
    ["an empty literal", [OP.LITERAL], [0]],
    ["an empty zero", [OP.ZERO], [0]],
    ["a repeated literal", [OP.LITERAL | (1 << 4)], [5]],
    ["a repeated DELTA", [OP.DELTA | (1 << 4)], [5]],
    ["a long run without its length", [OP.NEW | (15 << 4)], []],
  ])("refuses %s", (_, ops, args) => {
    expect(() => read(0, Uint8Array.from(ops), Uint8Array.from(args))).toThrow(ProtocolError);
  });
});

function ref(number: number): Op {
  return [OP.REF, number];
}

function expectOnlyProtocolErrors(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
  }
}
