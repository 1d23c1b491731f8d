import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { bytesFormat } from "../../../core/segment/bytes.ts";
import { createRecorder, same, segment } from "./recorder.ts";

describe("bytes", () => {
  test("everything is a literal, at once", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 9000 }), fc.array(fc.nat(5000), { minLength: 1 }), (bytes, lengths) => {
        const recording = segment(bytesFormat.create(), bytes, lengths);
        expect(recording.segments).toEqual([]);
        expect(same(recording.bytes, bytes)).toBe(true);
      }),
      { numRuns: 100 },
    );
    const recorder = createRecorder();
    bytesFormat.create().push(Buffer.alloc(4096), 0, 4096, recorder.sink);
    expect(recorder.length()).toBe(4096);
  });

  test("a hole stays one", () => {
    const recorder = createRecorder();
    bytesFormat.create().pushZeros?.(5000, recorder.sink);
    expect(recorder.end().segments).toEqual([{ zeros: 5000, offset: 0 }]);
  });
});
