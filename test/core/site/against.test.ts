// Bundles that leave out what an index lists, received where that is there, or is not there any more.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { MissingContentsError } from "../../../core/engine/missing.ts";
import type { SourceOptions } from "../../../core/engine/source-session.ts";
import { prefixIndex } from "../../../core/index/prefix-table.ts";
import { uniteTables } from "../../../core/index/table-walk.ts";
import { holdIndexed, holdName } from "../../../core/site/index-hold.ts";
import { nothingHere } from "../../../core/site/nothing.ts";
import { openLogs } from "../../../core/site/past-logs.ts";
import { scanSnapshot } from "../../../core/site/scan-snapshot.ts";
import { SharedStore } from "../../../core/site/shared-store.ts";
import { releaseHold } from "../../../core/store/holds.ts";
import { openLayout, writeIdentity } from "../../../core/store/layout.ts";
import { Store } from "../../../core/store/store.ts";
import { known, memoryTarget, migrate, player, record, replay, source } from "../../support/session.ts";
import { seedsOf, type TestSite, testSite } from "../../support/sites.ts";
import { digestOf, pages, range } from "./streams.ts";

let site: TestSite;
beforeEach(() => {
  site = testSite();
});
afterEach(() => site.remove());

const index = Buffer.alloc(32, 0xab);
const seed = () => join(site.folder, "base.raw");

/** What makes a bundle leave out what a seed of these pages has. */
async function againstSeed(...numbers: number[]): Promise<Partial<SourceOptions>> {
  writeFileSync(seed(), pages(...numbers));
  const seeds = await seedsOf(seed());
  const [{ name, size }] = seeds.files as unknown as [{ name: string; size: number }];
  const table = uniteTables(seeds.tables);
  seeds.close();
  return { against: { index, seeds: [{ name, size }] }, site: known(prefixIndex(table)) };
}

/** Receives a bundle with the seed as it is now; returns what arrived, and what it failed with. */
async function receive(bundle: Buffer, allOrNothing = false) {
  const seeds = await seedsOf(seed());
  const target = memoryTarget();
  const error = await replay(bundle, target, { ...site.receiving(seeds), allOrNothing }).then(
    () => undefined,
    (error) => error,
  );
  seeds.close();
  return { target, error };
}

describe("a bundle made against a seed", () => {
  test("is whole where the seed is", async () => {
    const options = await againstSeed(...range(0, 600));
    const disk = pages(...range(300, 600));
    const bundle = await record([source("disk", "raw", [disk])], options);
    const { target, error } = await receive(bundle);
    expect(error).toBeUndefined();
    expect(Buffer.compare(target.get("disk").bytes, disk)).toBe(0);
  });

  test.each([true, false])(
    "names all that is missing, and shows nothing (all or nothing: %p)",
    async (allOrNothing) => {
      const options = await againstSeed(...range(0, 2000));
      const whole = source("whole", "raw", [pages(...range(0, 500))]);
      const bundle = await record([whole, source("disk", "raw", [pages(...range(500, 1500))])], options);
      // Of the same size: 3 contents of several batches are gone, and one of them is nowhere needed.
      const changed = range(0, 2000).map((n) => (n === 700 || n === 1990 || n === 1200 ? n + 10_000 : n));
      writeFileSync(seed(), pages(...changed));
      const { target, error } = await receive(bundle, allOrNothing);
      expect(error).toBeInstanceOf(MissingContentsError);
      expect(error).toMatchObject({ code: "integrity", contents: 3, index });
      expect([...error.digests].sort()).toEqual([700, 1200, 1990].map((n) => digestOf(n).toString("hex")).sort());
      expect(error.message).toContain("3 contents");
      expect(error.message).toContain("abababababab");
      expect(target.all.map(({ ends }) => ends)).toEqual([["abort"], ["abort"]]);
    },
  );

  test("names at most a thousand digests, and counts all", async () => {
    const bundle = await record(
      [source("disk", "raw", [pages(...range(0, 1500))])],
      await againstSeed(...range(0, 1500)),
    );
    writeFileSync(seed(), pages(...range(50_000, 1500)));
    const { error } = await receive(bundle);
    expect([error.contents, error.digests.length]).toEqual([1500, 1000]);
  });

  test("that is damaged behind what is missing is told to be damaged", async () => {
    const bundle = await record(
      [source("disk", "raw", [pages(...range(0, 900))])],
      await againstSeed(...range(0, 900)),
    );
    writeFileSync(seed(), pages(...range(50_000, 900)));
    const { error, target } = await receive(bundle.subarray(0, -30));
    expect(error.code).toBe("integrity");
    expect(error).not.toBeInstanceOf(MissingContentsError);
    expect(target.all.every(({ ends }) => ends.join() === "abort")).toBe(true);
  });

  test("is refused before its first stream where the seed is not named, or is of another size", async () => {
    const bundle = await record([source("disk", "raw", [pages(1, 2)])], await againstSeed(...range(0, 10)));
    writeFileSync(seed(), pages(...range(0, 11)));
    const { target, error } = await receive(bundle);
    expect([error.code, target.all.length]).toEqual(["input", 0]);
    expect(error.message).toContain('"base.raw" (40960 bytes)');
    expect(error.message).toContain("index abababababab");
    const nowhere = replay(bundle, memoryTarget(), { openSite: nothingHere });
    await expect(nowhere).rejects.toMatchObject({ code: "input" });
  });

  test("names so many missing seeds that the message stays short", async () => {
    const seeds = range(0, 1000).map((n) => ({ name: `${n}`.padStart(40, "x"), size: n }));
    writeFileSync(seed(), pages(1));
    const { error } = await receive(await record([], { against: { index, seeds } }));
    expect(error.message).toContain("and of 980 more");
    expect(error.message.length).toBeLessThan(2000);
  });

  test("is not made where nobody could read what it says of its seeds", async () => {
    const seeds = range(0, 1000).map((n) => ({ name: `${n}`.padStart(200, "x"), size: n }));
    const recording = record([], { against: { index, seeds } });
    await expect(recording).rejects.toMatchObject({ code: "usage", message: expect.stringContaining("1000 seeds") });
  });
});

describe("a bundle made against a store", () => {
  /** Puts contents into the store; returns what makes a bundle leave them out. */
  async function againstStore(...numbers: number[]) {
    await migrate([source("disk", "raw", [pages(...numbers)])], { receiving: site.receiving() });
    const store = await Store.open(site.dir, { domain: "test" });
    const table = uniteTables(store.tables());
    const { identity } = store;
    await store.close();
    const options: Partial<SourceOptions> = {
      against: { index, ...identity, seeds: [] },
      site: known(prefixIndex(table)),
    };
    return { options, table };
  }
  const renew = async () => {
    const layout = await openLayout(site.dir, "test", false);
    const store = await Store.open(site.dir, { domain: "test" });
    await writeIdentity(layout, { site: store.identity.site, generation: randomBytes(16) });
    await store.close();
    return layout;
  };
  const disk = pages(...range(50, 300));

  test("is whole where the store is as it was, or holds what the index lists", async () => {
    const { options, table } = await againstStore(...range(0, 300));
    const bundle = await record([source("disk", "raw", [disk])], options);
    const target = memoryTarget();
    await replay(bundle, target, site.receiving());
    expect(Buffer.compare(target.get("disk").bytes, disk)).toBe(0);

    const store = await Store.open(site.dir, { domain: "test" });
    const name = await holdIndexed(store, index, table, { created: Date.now(), age: 60_000 });
    await store.close();
    expect(name).toBe(holdName(index));
    const layout = await renew();
    await replay(bundle, target, site.receiving());
    await releaseHold(layout, name);
    const released = replay(bundle, target, site.receiving());
    await expect(released).rejects.toMatchObject({
      code: "input",
      message: expect.stringContaining("before it was pruned"),
    });
  });

  test("is received again as it was the first time", async () => {
    const { options } = await againstStore(...range(0, 300));
    const bundle = await record([source("disk", "raw", [disk])], options);
    for (let i = 0; i < 2; i++) {
      const target = memoryTarget();
      await replay(bundle, target, site.receiving());
      expect(Buffer.compare(target.get("disk").bytes, disk)).toBe(0);
    }
  });

  test("is logged whole where it was cut the first time", async () => {
    const bundle = await record([source("disk", "raw", [pages(...range(0, 2000))])], {});
    const logged = async () => {
      const [log] = await openLogs((await openLayout(site.dir, "test", false)).logs);
      log?.close();
      return log?.length ?? 0;
    };
    await expect(replay(bundle.subarray(0, bundle.length / 2), memoryTarget(), site.receiving())).rejects.toThrow();
    expect(await logged()).toBeLessThan(2000);
    await replay(bundle, memoryTarget(), site.receiving());
    expect(await logged()).toBe(2000);
  });

  test("is refused once a hold has expired", async () => {
    const { options, table } = await againstStore(...range(0, 300));
    const bundle = await record([source("disk", "raw", [disk])], options);
    const store = await Store.open(site.dir, { domain: "test" });
    await holdIndexed(store, index, table, { created: Date.now() - 1000, age: 500 });
    await store.close();
    await renew();
    await expect(replay(bundle, memoryTarget(), site.receiving())).rejects.toMatchObject({ code: "input" });
  });
});

test("a snapshot's streams are read as a restore would write them, side by side where they came so", async () => {
  const disks = [pages(...range(0, 2000)), pages(...range(1500, 900)), pages(...range(3000, 10))];
  const sources = disks.map((disk, i) => source(`disk${i}`, "raw", [disk]));
  await migrate(
    disks.map((disk, i) => source(`disk${i}`, "raw", [disk])),
    { receiving: site.receiving() },
  );
  const everything = known({
    async lookup(_digests, count, held) {
      held.fill(1, 0, count);
    },
    async insert() {},
    async close() {},
  });
  const manifest = await record(sources, { site: everything, parallel: 3 });
  const options = { domain: "test", software: "test", spoolDir: site.folder, signal: new AbortController().signal };
  const read: Record<string, Buffer[]> = {};
  const store = new SharedStore(site.dir, { domain: "test" });
  await scanSnapshot(player(manifest), { ...options, store }, async ({ name }, pieces) => {
    const parts: Buffer[] = [];
    read[name] = parts;
    for await (const piece of pieces) {
      parts.push("zeros" in piece ? Buffer.alloc(piece.zeros) : Buffer.from(piece.bytes));
      if ("bytes" in piece) piece.release?.();
    }
  });
  for (const [i, disk] of disks.entries()) expect(Buffer.compare(Buffer.concat(read[`disk${i}`]!), disk)).toBe(0);

  const failing = scanSnapshot(player(manifest), { ...options, store }, () => Promise.reject(new Error("not wanted")));
  await expect(failing).rejects.toThrow("not wanted");
});
