import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { snapshotPath } from "../../../core/site/manifest.ts";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { encodeGroup } from "../../../core/store/group.ts";
import { packHeader } from "../../../core/store/pack.ts";
import { digest, filesOf, flip, generationOf, groupsOf, held, hold, refusal } from "./probe.ts";
import { machine, page, range, type TestStore, testStore } from "./stores.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

describe("prune after damage", () => {
  const a = machine(...range(0, 300));
  const b = machine(...range(200, 600));
  beforeEach(async () => {
    await store.keep("a", a);
    await store.keep("b", b);
  });

  test("to a group drops it, says who lacks it, and keeping that again makes all whole", async () => {
    const [first, second] = await groupsOf(store);
    store.change(await store.pack(1), flip(second!.offset - 1));
    expect((await store.verify()).clean).toBe(false);
    // The damaged group seems to be there, so that it is not stored again.
    const { harmed } = await store.prune();
    expect(harmed).toEqual([
      { kind: "snapshot", name: "a", lacking: first!.count },
      { kind: "snapshot", name: "b", lacking: 56 },
    ]);
    const report = await store.verify({ readData: true });
    expect(report).toMatchObject({ damaged: [], runs: [], misplaced: 0, contents: 600 - 256 });
    expect(report.needs).toMatchObject([
      { lacking: 256, damaged: 0 },
      { lacking: 56, damaged: 0 },
    ]);
    await store.keep("c", a);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 600 });
    expect([await store.restores("a", a), await store.restores("b", b)]).toEqual([true, true]);
  });

  test("to a head keeps what lies behind it, as the index knows where", async () => {
    const [first] = await groupsOf(store);
    store.change(await store.pack(1), flip(first!.offset + 1));
    expect((await store.prune()).harmed).toMatchObject([
      { name: "a", lacking: 256 },
      { name: "b", lacking: 56 },
    ]);
    expect(await held(store, range(0, 600))).toEqual(range(256, 600));
    expect((await store.verify()).damaged).toEqual([]);
  });

  test("to the beginning of a pack loses nothing", async () => {
    store.change(await store.pack(1), flip(9));
    expect((await store.prune()).harmed).toEqual([]);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 600 });
  });

  test("that took a pack, or a part of one", async () => {
    const { size } = fs.statSync(await store.pack(1));
    fs.truncateSync(await store.pack(1), size - 1);
    await store.prune();
    expect((await store.verify()).damaged).toEqual([]);
    // The last group had 44.
    expect(await held(store, range(0, 600))).toEqual(range(0, 556));
    for (const pack of await store.packs()) fs.rmSync(await store.pack(pack));
    expect((await store.prune()).harmed).toMatchObject([{ lacking: 300 }, { lacking: 400 }]);
    expect(await store.verify()).toMatchObject({ damaged: [], misplaced: 0, packs: 0 });
    await store.keep("c", machine(...range(0, 600)));
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true });
  });

  test("to the index makes it again", async () => {
    const { index } = await store.layout();
    store.change(join(index, fs.readdirSync(index)[0]!), flip(200));
    expect((await store.verify()).runs).toHaveLength(1);
    const before = await generationOf(store);
    await store.prune();
    expect(await store.verify()).toMatchObject({ clean: true, contents: 600 });
    expect(await generationOf(store)).toBe(before);
    await DigestIndex.replace(
      index,
      DigestIndex.builder().build(),
      new Map([[1, fs.statSync(await store.pack(1)).size]]),
    );
    await store.prune();
    expect(await store.verify()).toMatchObject({ clean: true, contents: 600 });
  });

  test("that only digests tell drops it where packs are written anew", async () => {
    const numbers = range(700, 900);
    const pages = Buffer.concat(numbers.map(page));
    pages[7 * 4096]! ^= 1;
    const forged = await encodeGroup(Buffer.concat(numbers.map(digest)), pages, 1);
    fs.writeFileSync(await store.pack(2), Buffer.concat([packHeader(), ...forged]));
    await store.keep("c", machine(...numbers));
    expect((await store.verify({ readData: true })).damaged).toMatchObject([{ contents: 1 }]);
    const before = await generationOf(store);
    const { harmed, removed } = await store.prune({ repack: true });
    expect(harmed).toEqual([{ kind: "snapshot", name: "c", lacking: 1 }]);
    expect(removed.contents).toBe(1);
    expect(await generationOf(store)).not.toBe(before);
    expect(await held(store, numbers)).toEqual(numbers.filter((number) => number !== 707));
    expect((await store.verify({ readData: true })).damaged).toEqual([]);
  });

  test("leaves a pack alone that can't be read", async () => {
    await store.nextPack();
    await store.keep("c", machine(...range(1000, 1100)));
    await store.nextPack();
    await store.keep("d", machine(...range(2000, 2100)));
    const aside = join(store.dir, "aside");
    const path = await store.pack(1);
    fs.renameSync(path, aside);
    fs.mkdirSync(path);
    const { unreadable, packs, harmed } = await store.prune({ forget: ["c"], repack: true });
    expect({ unreadable, packs, harmed }).toEqual({
      unreadable: [path],
      packs: { removed: 1, rewritten: 1, kept: 1 },
      harmed: [],
    });
    fs.rmdirSync(path);
    fs.renameSync(aside, path);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 700 });
    expect([await store.restores("a", a), await store.restores("b", b)]).toEqual([true, true]);
  });

  test("cuts off a write that was interrupted, where other packs follow", async () => {
    const path = await store.pack(1);
    const { size } = fs.statSync(path);
    fs.appendFileSync(path, Buffer.alloc(5000, 1));
    await store.prune();
    expect(fs.statSync(path).size).toBe(size);
    expect(await store.verify()).toMatchObject({ clean: true, notes: [] });
  });

  test.each(["manifest", "hold"])("removes nothing where a %s is damaged, until that is given up", async (what) => {
    await hold(store, "held", range(0, 100), 1e15);
    const layout = await store.layout();
    const path = what === "hold" ? join(layout.holds, "held.hold") : snapshotPath(layout, "a");
    store.change(path, (bytes) => bytes.subarray(0, -1));
    const before = filesOf(store);
    const error = await refusal(store.prune({ forget: ["b"] }));
    expect(error.code).toBe("integrity");
    expect(error.message).toContain(what === "hold" ? "--release held" : "--forget a");
    expect(filesOf(store)).toEqual(before);
    const given = what === "hold" ? { release: ["held"] } : { forget: ["a"] };
    expect((await store.prune(given)).harmed).toEqual([]);
    expect((await store.verify()).clean).toBe(true);
  });
});
