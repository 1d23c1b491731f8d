import { expect, test } from "bun:test";
import { FrameReader, frameHeader } from "../../../core/wire/frame.ts";
import { FRAME } from "../../../core/wire/numbers.ts";
import { pieces } from "./pieces.ts";

const PAYLOAD = Buffer.alloc(2 << 20);
const batch = (sequence: number) => Buffer.concat([frameHeader(FRAME.BATCH, sequence, [PAYLOAD]), PAYLOAD]);

test("memory of batches that were given back is used again, 4 MiB of it", async () => {
  const direction = Buffer.concat(Array.from({ length: 8 }, (_, sequence) => batch(sequence)));
  const reader = new FrameReader(pieces(direction, [100_000]), "tcp://peer");
  const read = async () => {
    const frames = [];
    for (let i = 0; i < 4; i++) frames.push((await reader.next())!);
    for (const { release } of frames) release!();
    return new Set(frames.map(({ payload }) => payload.buffer));
  };
  const first = await read();
  expect(first.size).toBe(4);
  expect([...(await read())].filter((memory) => first.has(memory))).toHaveLength(2);
});
