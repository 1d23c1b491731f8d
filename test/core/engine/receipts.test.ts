import { expect, test } from "bun:test";
import { Receipts } from "../../../core/engine/receipts.ts";
import { FRAME } from "../../../core/wire/numbers.ts";

const frame = (sequence: number, bytes = 0, type: number = FRAME.TELL) => ({
  type,
  sequence,
  payload: Buffer.alloc(bytes),
});

test("the peer is told after 64 frames, 256 KiB of payloads, or the end", () => {
  const receipts = new Receipts();
  for (const _ of [1, 2]) {
    for (let i = 0; i < 63; i++) expect(receipts.arrived(frame(i))).toBe(false);
    expect(receipts.arrived(frame(63))).toBe(true);
    receipts.told();
    expect(receipts.arrived(frame(0, (256 << 10) - 1))).toBe(false);
    expect(receipts.arrived(frame(1, 1))).toBe(true);
    receipts.told();
  }
  expect(receipts.arrived(frame(2, 1, FRAME.DONE))).toBe(true);
});

test("the number after 2^32 - 1 is 0, and acknowledgements alone are nothing to tell of", () => {
  const receipts = new Receipts();
  receipts.arrived(frame(2 ** 32 - 1, 4, FRAME.ACK));
  expect([receipts.due, receipts.last, receipts.some, receipts.lasting]).toEqual([0, 2 ** 32 - 1, true, false]);
  receipts.arrived(frame(0));
  expect([receipts.due, receipts.last, receipts.lasting]).toEqual([1, 0, true]);
});
