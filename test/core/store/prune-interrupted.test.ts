import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { snapshotPath } from "../../../core/site/manifest.ts";
import { machine, range, type TestStore, testStore } from "./stores.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

describe("a prune that did not come to its end", () => {
  /** The store before, and what was made of it. */
  async function pruned() {
    await store.keep("a", machine(...range(0, 700)));
    await store.nextPack();
    await store.keep("b", machine(...range(500, 1200)));
    await store.nextPack();
    await store.keep("c", machine(...range(1150, 1400)));
    using after = testStore();
    fs.rmSync(snapshotPath(await store.layout(), "a"));
    fs.cpSync(store.dir, after.dir, { recursive: true });
    await after.prune();
    const packs = await Promise.all(
      (await after.packs()).map(async (pack) => ({ pack, bytes: fs.readFileSync(await after.pack(pack)) })),
    );
    const { index } = await after.layout();
    const runs = fs.readdirSync(index).map((name) => ({ name, bytes: fs.readFileSync(join(index, name)) }));
    return { packs: packs.filter(({ pack }) => pack > 3), runs };
  }

  async function check(): Promise<void> {
    const whole = async () => [
      await store.restores("b", machine(...range(500, 1200))),
      await store.restores("c", machine(...range(1150, 1400))),
    ];
    expect(await whole()).toEqual([true, true]);
    expect((await store.verify({ readData: true })).clean).toBe(true);
    expect((await store.prune()).harmed).toEqual([]);
    expect(await whole()).toEqual([true, true]);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 900 });
    expect((await store.prune()).packs).toMatchObject({ removed: 0, rewritten: 0 });
  }

  test.each([0, 0.3, 0.99, 1])("while it wrote new packs, of which there is a share of %d", async (share) => {
    const { packs } = await pruned();
    expect(packs).toHaveLength(1);
    const [{ pack, bytes }] = packs as [{ pack: number; bytes: Buffer }];
    fs.writeFileSync(await store.pack(pack), bytes.subarray(0, Math.floor(bytes.length * share)));
    await check();
  });

  test.each([0, 1])("once the index was replaced, with %d old packs removed", async (removed) => {
    const { packs, runs } = await pruned();
    for (const { pack, bytes } of packs) fs.writeFileSync(await store.pack(pack), bytes);
    const { index } = await store.layout();
    for (const { name, bytes } of runs) fs.writeFileSync(join(index, name), bytes);
    if (removed > 0) fs.rmSync(await store.pack(1));
    await check();
  });

  test("and was followed by a writer", async () => {
    const { packs, runs } = await pruned();
    for (const { pack, bytes } of packs) fs.writeFileSync(await store.pack(pack), bytes.subarray(0, -10));
    await store.keep("d", machine(...range(3000, 3010)));
    expect((await store.verify({ readData: true })).clean).toBe(true);
    for (const { name, bytes } of runs) fs.writeFileSync(join((await store.layout()).index, name), bytes);
    await store.prune();
    expect(await store.restores("d", machine(...range(3000, 3010)))).toBe(true);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 910 });
  });
});
