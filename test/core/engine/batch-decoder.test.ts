import { expect, test } from "bun:test";
import { BatchDecoder, DecodeBuffers } from "../../../core/engine/batch-decoder.ts";
import { IntegrityError } from "../../../core/errors.ts";
import { zstdEncoder } from "../../../core/wire/codec/zstd.ts";
import { CODEC, COLUMN } from "../../../core/wire/numbers.ts";
import { within } from "../../support/session.ts";

const header = { stream: 1, lane: 0, first: 0, forget: 0, count: 0, segments: 1, plain: 0, digest: new Uint8Array(32) };

/** Whether a column is taken that was made with this window, where that of contents was agreed on. */
async function takes(column: number, window: number, agreed: number): Promise<boolean> {
  const encoder = zstdEncoder({ level: 1, windowLog: window });
  const parts = [Buffer.concat(await encoder.encode(Buffer.alloc(4096, "x")))];
  encoder.close();
  const decoder = new BatchDecoder(agreed);
  try {
    const columns = [{ column, codec: CODEC.ZSTD, length: 4096, parts }];
    await within(decoder.decode(header, columns, new DecodeBuffers()));
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(IntegrityError);
    return false;
  } finally {
    decoder.close();
  }
}

test("contents have the window that was agreed on, other columns 1 MiB", async () => {
  expect([await takes(COLUMN.CONTENTS, 24, 24), await takes(COLUMN.CONTENTS, 25, 24)]).toEqual([true, false]);
  for (const column of [COLUMN.OPS, COLUMN.ARGUMENTS, COLUMN.LITERALS, COLUMN.DELTAS, COLUMN.STORED, COLUMN.DIGESTS])
    expect([column, await takes(column, 20, 24), await takes(column, 21, 24)]).toEqual([column, true, false]);
});
