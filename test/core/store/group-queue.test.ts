import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { GROUP_CONTENTS } from "../../../core/store/group.ts";
import { GroupQueue } from "../../../core/store/group-queue.ts";
import { PACK_HEADER, packPath } from "../../../core/store/pack.ts";
import { PackWriter } from "../../../core/store/pack-writer.ts";
import { RecentContents } from "../../../core/store/recent.ts";
import { type Contents, contents, failure, range, type TempFolder, tempFolder } from "./contents.ts";
import { digestsOf, scan } from "./packs.ts";

let folder: TempFolder;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

async function withQueue(
  path: string,
  work: (queue: GroupQueue, recent: RecentContents) => Promise<void>,
): Promise<void> {
  const recent = new RecentContents();
  const writer = new PackWriter(path, 1, 0);
  const queue = new GroupQueue(recent, writer);
  try {
    await work(queue, recent);
  } finally {
    await queue.settled().catch(() => {});
    queue.end();
    await writer.close();
  }
}

function addAll(queue: GroupQueue, { digests, pages, count }: Contents): void {
  const words = new Int32Array(digests.buffer);
  for (let i = 0; i < count; i++) queue.add(digests, words, i, pages, i);
}

describe("a queue", () => {
  test("writes what it was given, in that order, in groups as they were closed", async () => {
    const parts = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(parts, fc.array(fc.constantFrom("close", "sync", "room", "nothing")), async (sizes, between) => {
        using folder = tempFolder();
        await withQueue(folder.path, async (queue, recent) => {
          const groups: number[][] = [[]];
          let first = 0;
          for (const [i, size] of sizes.entries()) {
            const numbers = range(first, size);
            const given = contents(numbers);
            addAll(queue, given);
            // It was copied.
            given.pages.fill(0xee);
            given.digests.fill(0xee);
            groups.at(-1)!.push(...numbers);
            first += size;
            const then = between[i] ?? "nothing";
            if (then === "room") await queue.room();
            if (then !== "close" && then !== "sync") continue;
            queue.close();
            groups.push([]);
            if (then === "sync") await queue.sync();
          }
          queue.close();
          await queue.sync();
          const written = groups.filter(({ length }) => length > 0);
          const { groups: found, digests, size } = await scan(packPath(folder.path, 1));
          expect(found.length).toBe(written.length);
          expect(Buffer.compare(digests, digestsOf(written))).toBe(0);
          expect(queue.bytes).toBe(size - PACK_HEADER);
          // And each is where it is said to be.
          let number = 0;
          for (const [i, group] of written.entries())
            for (let slot = 0; slot < group.length; slot++)
              expect(recent.place(number++)).toEqual({ place: { pack: 1, offset: found[i]!.offset }, slot });
        });
      }),
      { numRuns: 25 },
    );
  });

  test("closes a group that is full", async () => {
    await withQueue(folder.path, async (queue, recent) => {
      addAll(queue, contents(range(0, 2 * GROUP_CONTENTS + 1, 2)));
      await queue.settled();
      expect((await scan(packPath(folder.path, 1))).groups.length).toBe(2);
      expect(recent.place(2 * GROUP_CONTENTS)).toBe(undefined);
      expect(recent.place(2 * GROUP_CONTENTS - 1)?.slot).toBe(GROUP_CONTENTS - 1);
    });
  });

  test("has room for three that are on their way, and waits with a fourth", async () => {
    expect(GROUP_CONTENTS).toBe(256);
    await withQueue(folder.path, async (queue, recent) => {
      for (let group = 0; group < 4; group++) {
        addAll(queue, contents([group]));
        queue.close();
        await queue.room();
        // None can be written before this task is over, unless it was waited for.
        expect(recent.place(0) !== undefined).toBe(group === 3);
      }
    });
  });

  test("that can't write says so, and writes nothing more", async () => {
    const nowhere = join(folder.path, "nowhere");
    await withQueue(nowhere, async (queue) => {
      addAll(queue, contents([0, 1]));
      queue.close();
      expect((await failure(queue.settled())).code).toBe("input");
      // Though it could by now: what came before would be missing.
      mkdirSync(nowhere);
      const words = contents([2]);
      expect(() => addAll(queue, words)).toThrow("nowhere");
      queue.close();
      expect((await failure(queue.sync())).code).toBe("input");
      expect(readdirSync(nowhere)).toEqual([]);
    });
  });
});
