import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { dataRuns } from "../../../core/machines/image/data-runs.ts";

const PAGE = 4096;

describe("what a file needs to hold", () => {
  test("no aligned block of zeros, and every other byte, wherever the bytes go", () => {
    const block = fc.constantFrom(0, 0, 1, 255);
    fc.assert(
      fc.property(fc.array(block, { maxLength: 12 }), fc.nat(3 * PAGE), fc.nat(PAGE), (blocks, position, tail) => {
        const bytes = Buffer.concat([...blocks.map((value) => Buffer.alloc(PAGE, value)), Buffer.alloc(tail, 7)]);
        const written = Buffer.alloc(bytes.length);
        let end = 0;
        for (const [from, to] of dataRuns(bytes, position)) {
          expect(from).toBeGreaterThanOrEqual(end);
          expect(to).toBeGreaterThan(from);
          bytes.copy(written, from, from, to);
          end = to;
          for (let at = Math.ceil((position + from) / PAGE) * PAGE - position; at + PAGE <= to; at += PAGE) {
            expect(bytes.subarray(at, at + PAGE).every((byte) => byte === 0)).toBe(false);
          }
        }
        expect(Buffer.compare(written, bytes)).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});
