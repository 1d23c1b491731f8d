import { expect, test } from "bun:test";
import type { ContentBroker } from "../../../core/engine/broker.ts";
import { ContentFinder } from "../../../core/engine/finder.ts";

test("memory of nine batches' pages is kept for later, and no more", async () => {
  const seen: ArrayBufferLike[] = [];
  const broker: ContentBroker = {
    name: "all",
    checks: true,
    async fetch(_digests, count, found, pages) {
      seen.push(pages.buffer);
      found.fill(1, 0, count);
    },
  };
  const finder = new ContentFinder([broker], undefined);
  const find = async (count: number) => {
    const all = [];
    for (let i = 0; i < count; i++) all.push((await finder.find(Buffer.alloc(32), [i]))!);
    for (const found of all) found.release();
    return new Set(seen.splice(0));
  };
  const first = await find(12);
  expect([...first].map(({ byteLength }) => byteLength)).toEqual(new Array(12).fill(1 << 20));
  expect([...(await find(12))].filter((memory) => first.has(memory))).toHaveLength(9);
  // Of one batch after the other there is one.
  for (let i = 0; i < 20; i++) expect((await find(1)).size).toBe(1);
});
