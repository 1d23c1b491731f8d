import { expect, test } from "bun:test";
import { CancelledError } from "../../../../core/errors.ts";
import { readPieces } from "../../../../core/machines/image/pieces.ts";
import type { Reader } from "../../../../core/machines/image/reader.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 2));

test("a file is read into 8 buffers of 1 MiB, six of them ahead of who takes it", async () => {
  const seen = new Set<ArrayBufferLike>();
  let reads = 0;
  const reader: Reader = {
    hole: () => 0,
    async read(buffer) {
      reads++;
      seen.add(buffer.buffer);
      return buffer.length;
    },
    async finish() {},
    async close() {},
  };
  const controller = new AbortController();
  const pieces = readPieces(reader, undefined, controller.signal);
  await pieces.next();
  await turn();
  expect(reads).toBe(6);
  for (let taken = 1; taken < 8; taken++) await pieces.next();
  // Nothing was given back: there is no memory for a ninth.
  const waiting = pieces.next().catch((error: unknown) => error);
  await turn();
  expect([reads, seen.size]).toEqual([8, 8]);
  expect([...seen].every(({ byteLength }) => byteLength === 1 << 20)).toBe(true);
  controller.abort(new CancelledError("enough"));
  expect(await waiting).toBeInstanceOf(CancelledError);
});
