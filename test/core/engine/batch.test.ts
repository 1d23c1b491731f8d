import { expect, test } from "bun:test";
import { Batch } from "../../../core/engine/batch.ts";
import { DecodeBuffers } from "../../../core/engine/batch-decoder.ts";
import { MAX_QUEUED } from "../../../core/engine/out-stream.ts";
import { KEPT_PIECES } from "../../../core/engine/receiver.ts";
import { BATCHES } from "../../../core/engine/sender.ts";
import { COLUMN, OP } from "../../../core/wire/numbers.ts";

test("a batch has 1 MiB for contents, 2 MiB for literals, and 1 MiB each for XORs and for what is sent whole, made once", () => {
  const batch = new Batch();
  const memory = () =>
    [batch.contents, batch.literals, batch.deltaWords, batch.gathered(OP.NEW)].map((one) => one.buffer);
  const first = memory();
  expect(first.map(({ byteLength }) => byteLength / 2 ** 20)).toEqual([1, 2, 1, 1]);
  batch.reset(1);
  expect(memory().every((buffer, i) => buffer === first[i])).toBe(true);
});

test("a decoded batch has 1 MiB for each column of pages, made once", () => {
  const buffers = new DecodeBuffers();
  for (const column of [COLUMN.CONTENTS, COLUMN.DELTAS, COLUMN.STORED]) {
    const { buffer } = buffers.take(column, 4096);
    expect(buffer.byteLength).toBe(1 << 20);
    expect(buffers.take(column, 1 << 20).buffer).toBe(buffer);
  }
});

test("so many of these are made, and so much of other memory, as docs/limits.md says", () => {
  expect([BATCHES, MAX_QUEUED, KEPT_PIECES]).toEqual([6, 4 << 20, 24 << 20]);
});
