import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ProtocolError } from "../../../core/errors.ts";
import { type BatchHeader, decodeBatch, type EncodedColumn, encodeBatch } from "../../../core/wire/batch.ts";
import { COLUMN, COLUMNS, MAX_PAYLOAD } from "../../../core/wire/numbers.ts";

/** As docs/limits.md has them: taken from the source, they would move with it. */
const MAX_CONTENTS = 256;
const MAX_SEGMENTS = 4096;
const MAX_PLAIN = 2 << 20;

const header: BatchHeader = {
  stream: 7,
  lane: 0,
  first: 2 ** 40 + 3,
  count: 2,
  segments: 9,
  plain: 12_000,
  forget: 2 ** 33,
  digest: Uint8Array.from({ length: 32 }, (_, i) => i),
};

const MIB = 1 << 20;
/** The most bytes that each column may decode to, by its number, as docs/wire-format.md has them. */
const LIMITS = [4096, 64 << 10, MAX_PLAIN, MIB, MIB, MIB, 8192];

function column(column: number, length: number, ...parts: number[][]): EncodedColumn {
  return { column, codec: 0, length, parts: parts.map((part) => Uint8Array.from(part)) };
}

function encode(some: Partial<BatchHeader> = {}, columns: readonly EncodedColumn[] = []): Buffer {
  return Buffer.concat(encodeBatch({ ...header, ...some }, columns));
}

function decode(payload: Buffer) {
  const { header, columns } = decodeBatch(payload);
  const plain = (bytes: Uint8Array) => Array.from(bytes);
  return {
    header: { ...header, digest: plain(header.digest) },
    columns: columns.map((column) => ({ ...column, parts: [plain(Buffer.concat(column.parts))] })),
  };
}

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u53 = fc.oneof(fc.nat(1000), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));
const headers: fc.Arbitrary<BatchHeader> = fc.record({
  stream: u32,
  lane: fc.constant(0),
  first: u53,
  count: fc.nat(MAX_CONTENTS),
  segments: fc.nat(MAX_SEGMENTS),
  plain: fc.nat(MAX_PLAIN),
  forget: u53,
  digest: fc.uint8Array({ minLength: 32, maxLength: 32 }),
});
const columns = fc.subarray(LIMITS.map((_, i) => i)).chain((chosen) =>
  fc.tuple(
    ...chosen.map((column) =>
      fc.record({
        column: fc.constant(column),
        codec: fc.integer({ min: 0, max: 255 }),
        length: fc.integer({ min: 1, max: LIMITS[column]! }),
        parts: fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 4 }),
      }),
    ),
  ),
);

describe("batch", () => {
  test("what is encoded is decoded", () => {
    fc.assert(
      fc.property(headers, columns, (header, columns) => {
        const decoded = decode(Buffer.concat(encodeBatch(header, columns)));
        expect(decoded.header).toEqual({ ...header, digest: Array.from(header.digest) });
        expect(decoded.columns).toEqual(
          columns.map((column) => ({ ...column, parts: [Array.from(Buffer.concat(column.parts))] })),
        );
      }),
      { numRuns: 200 },
    );
  });

  test("the columns are views of the payload", () => {
    const payload = encode({}, [column(COLUMN.OPS, 3, [1, 2], [3])]);
    const [found] = decodeBatch(payload).columns;
    payload.fill(9, payload.length - 3);
    expect(Array.from(found!.parts[0]!)).toEqual([9, 9, 9]);
  });

  test("a batch at its limits fits a frame", () => {
    const columns = LIMITS.map((length, i): EncodedColumn => ({ column: i, codec: 0, length, parts: [] }));
    const most = LIMITS.reduce((sum, length) => sum + length, encode({}, columns).length);
    expect(most).toBeLessThanOrEqual(MAX_PAYLOAD);
  });

  test.each([
    ["contents", { count: MAX_CONTENTS }, { count: MAX_CONTENTS + 1 }],
    ["segments", { segments: MAX_SEGMENTS }, { segments: MAX_SEGMENTS + 1 }],
    ["plain bytes", { plain: MAX_PLAIN }, { plain: MAX_PLAIN + 1 }],
    ["the first number", { first: Number.MAX_SAFE_INTEGER }, { first: 2 ** 53 }],
    ["the forgotten number", { forget: Number.MAX_SAFE_INTEGER }, { forget: 2 ** 53 }],
    ["the lane", { lane: 0 }, { lane: 1 }],
  ])("%s may be at the bound and not beyond it", (_, within, beyond) => {
    decodeBatch(encode(within));
    expect(() => decodeBatch(encode(beyond))).toThrow(ProtocolError);
  });

  test.each(LIMITS.map((limit, i) => [i, limit]))("column %d decodes to at most %d bytes", (i, limit) => {
    decodeBatch(encode({}, [column(i, limit, [1])]));
    expect(() => decodeBatch(encode({}, [column(i, limit + 1, [1])]))).toThrow(ProtocolError);
    expect(() => decodeBatch(encode({}, [column(i, 0, [1])]))).toThrow(ProtocolError);
  });

  test.each([
    ["twice the same column", [column(1, 1, [1]), column(1, 1, [1])]],
    ["columns that descend", [column(2, 1, [1]), column(1, 1, [1])]],
    ["an unknown column", [column(COLUMNS, 1, [1])]],
    ["more columns than there are", Array.from({ length: COLUMNS + 1 }, (_, i) => column(i, 1, [1]))],
  ])("refuses %s", (_, columns) => {
    expect(() => decodeBatch(encode({}, columns))).toThrow(ProtocolError);
  });

  test("refuses reserved bytes that are set", () => {
    for (const at of [6, 7]) {
      const payload = encode();
      payload[at] = 1;
      expect(() => decodeBatch(payload)).toThrow("reserved");
    }
  });

  test("refuses a payload that is cut anywhere, or goes on", () => {
    const payload = encode({}, [column(COLUMN.OPS, 3, [1, 2, 3]), column(COLUMN.LITERALS, 2, [4, 5])]);
    for (let length = 0; length < payload.length; length++) {
      expect(() => decodeBatch(payload.subarray(0, length))).toThrow(ProtocolError);
    }
    expect(() => decodeBatch(Buffer.concat([payload, Buffer.alloc(1)]))).toThrow(ProtocolError);
  });

  test("random and changed payloads are read or refused", () => {
    const base = encode({}, [column(COLUMN.OPS, 3, [1, 2, 3]), column(COLUMN.LITERALS, 2, [4, 5])]);
    const changed = fc.tuple(fc.nat(base.length - 1), fc.nat(255)).map(([at, value]) => {
      const bytes = Buffer.from(base);
      bytes[at] = value;
      return bytes;
    });
    const random = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.oneof(changed, random), (payload) => {
        try {
          for (const { length, parts } of decodeBatch(payload).columns) {
            expect(length).toBeLessThanOrEqual(MAX_PLAIN);
            expect(parts[0]!.length).toBeLessThanOrEqual(payload.length);
          }
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });
});
