import { describe, expect, test } from "bun:test";
import { PAGE_SIZE } from "../../../core/content/page.ts";
import { isZeroPage } from "../../../core/content/zero.ts";

describe("zero test", () => {
  test("a page of zeros is one wherever it lies, whatever lies around it", () => {
    for (const start of [0, 1, 7, 4096, 5001]) {
      const bytes = new Uint8Array(start + PAGE_SIZE + 3).fill(0xff);
      bytes.fill(0, start, start + PAGE_SIZE);
      expect(isZeroPage(bytes, start)).toBe(true);
      if (start > 0) expect(isZeroPage(bytes, start - 1)).toBe(false);
      expect(isZeroPage(bytes, start + 1)).toBe(false);
    }
  });

  test("any one bit makes it another", () => {
    const bytes = Buffer.alloc(PAGE_SIZE + 10);
    const wrong: number[] = [];
    for (let at = 0; at < PAGE_SIZE; at++) {
      bytes[5 + at] = 1 << (at % 8);
      if (isZeroPage(bytes, 5)) wrong.push(at);
      bytes[5 + at] = 0;
    }
    expect(wrong).toEqual([]);
    expect(isZeroPage(bytes, 5)).toBe(true);
  });
});
