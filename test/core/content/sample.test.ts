import { describe, expect, test } from "bun:test";
import { createHash, randomFillSync } from "node:crypto";
import { deflateRawSync } from "node:zlib";
import { PAGE_SIZE } from "../../../core/content/page.ts";
import { looksIncompressible } from "../../../core/content/sample.ts";

/** The share of a buffer's whole pages that look like noise. */
function share(bytes: Uint8Array): number {
  const count = Math.floor(bytes.length / PAGE_SIZE);
  let noise = 0;
  for (let i = 0; i < count; i++) if (looksIncompressible(bytes, i * PAGE_SIZE)) noise++;
  return noise / count;
}

/** Noise that is alike in every run. */
function keyed(length: number): Buffer {
  const blocks = Array.from({ length: length / 32 }, (_, i) => createHash("sha256").update(String(i)).digest());
  return Buffer.concat(blocks);
}

describe("noise test", () => {
  test("noise and compressed data are noise", () => {
    expect(share(randomFillSync(new Uint8Array(1000 * PAGE_SIZE)))).toBeGreaterThan(0.97);
    expect(share(keyed(200 * PAGE_SIZE))).toBeGreaterThan(0.97);
    // Sixteen different letters in place of bytes compress to noise again.
    const letters = Buffer.from(keyed(400 * PAGE_SIZE).toString("hex"));
    expect(share(deflateRawSync(letters))).toBeGreaterThan(0.9);
  });

  test("text, skewed bytes, zeros and counters are not", () => {
    expect(share(Buffer.from(keyed(100 * PAGE_SIZE).toString("hex")))).toBe(0);
    // Bytes with 6.5 bits each: as dense as machine code gets.
    const noise = keyed(100 * PAGE_SIZE);
    expect(share(noise.map((byte, i) => byte & noise[(i + 32) % noise.length]!))).toBe(0);
    expect(share(new Uint8Array(10 * PAGE_SIZE))).toBe(0);
    const counters = new Uint32Array(20 * (PAGE_SIZE / 4)).map((_, i) => i);
    expect(share(new Uint8Array(counters.buffer))).toBe(0);
  });

  test("each page is judged alone, wherever it lies", () => {
    const noise = keyed(PAGE_SIZE);
    for (const start of [0, 1, 100, 4096]) {
      const bytes = Buffer.alloc(start + 2 * PAGE_SIZE);
      noise.copy(bytes, start);
      expect(looksIncompressible(bytes, start)).toBe(true);
      expect(looksIncompressible(bytes, start + PAGE_SIZE)).toBe(false);
    }
  });
});
