import { expect, test } from "bun:test";
import { KeyTable } from "../../../core/engine/key-table.ts";

test("a key has the number that was last put for it", () => {
  const table = new KeyTable();
  for (const key of [0, 1, 1023, 1024, 2 ** 52]) {
    expect(table.replace(key, 5)).toBe(-1);
    expect(table.replace(key, 0)).toBe(5);
    expect(table.replace(key, 2 ** 32 - 2)).toBe(0);
    expect(table.replace(key, 7)).toBe(2 ** 32 - 2);
  }
});

test("a stream that is sparse gets 1024 blocks, and one more for every 256 chunks", () => {
  const table = new KeyTable();
  const COUNT = 5000;
  for (let i = 0; i < COUNT; i++) table.replace(i * 1024, i);
  let kept = 0;
  for (let i = 0; i < 1024; i++) if (table.replace(i * 1024, i) === i) kept++;
  expect(kept).toBe(1024);
  for (let i = 1024; i < COUNT; i++) if (table.replace(i * 1024, i) === i) kept++;
  expect(kept).toBeGreaterThan(1024);
  expect(kept).toBeLessThanOrEqual(1024 + (2 * COUNT) / 256);
});
