import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { unpackInto } from "../../../core/content/unpack.ts";

describe("a frame is decompressed into memory that is there", () => {
  test("whatever it holds, one after another", () => {
    const room = new Uint8Array((1 << 16) + 2);
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
      fc.integer({ min: 1, max: 1 << 16 }).map((length) => new Uint8Array(randomBytes(length))),
    );
    fc.assert(
      fc.property(bytes, (plain) => {
        room.fill(0xee);
        // This runtime can: else nothing here would be tested.
        expect(unpackInto(zstdCompressSync(plain), room, plain.length)).toBe(true);
        expect(Buffer.compare(room.subarray(0, plain.length), plain)).toBe(0);
        expect(room.subarray(plain.length + 1).every((byte) => byte === 0xee)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  const plain = randomBytes(5000);
  const frame = zstdCompressSync(plain);
  test.each([
    ["more than is due", frame, 4999],
    ["fewer than are due", frame, 5001],
    ["a bomb", zstdCompressSync(Buffer.alloc(1 << 26)), 5000],
    ["half a frame", frame.subarray(0, 2000), 5000],
    ["no frame", randomBytes(5000), 5000],
    ["nothing", Buffer.alloc(0), 5000],
    ["two frames", Buffer.concat([frame, frame]), 5000],
  ] as const)("and refused where it holds %s; the next is right again", (_, packed, length) => {
    const room = new Uint8Array(8192).fill(0xee);
    expect(() => unpackInto(packed, room, length)).toThrow(RangeError);
    expect(room.subarray(length + 1).every((byte) => byte === 0xee)).toBe(true);
    expect(unpackInto(frame, room, 5000)).toBe(true);
    expect(Buffer.compare(room.subarray(0, 5000), plain)).toBe(0);
  });
});
