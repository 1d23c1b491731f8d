import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { listSnapshots } from "../../../core/site/manifest.ts";
import { LogWriter, listLogs } from "../../../core/store/content-log.ts";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { listHolds } from "../../../core/store/holds.ts";
import { Store } from "../../../core/store/store.ts";
import { digest, filesOf, flip, generationOf, groupsOf, held, hold, refusal } from "./probe.ts";
import { DOMAIN, machine, page, range, type TestStore, testStore } from "./stores.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

/** A session's log, as a receiver keeps it; it ended at `time`. */
async function receive(session: number, numbers: readonly number[], time: number): Promise<void> {
  const writer = await Store.open(store.dir, { domain: DOMAIN, write: true });
  const log = await LogWriter.create(writer.layout.logs, Buffer.alloc(16, session));
  const digests = new Uint8Array(Buffer.concat(numbers.map(digest)));
  const pages = Buffer.concat(numbers.map(page));
  for (const keeper of [writer, log]) await keeper.put(digests, pages, numbers.length);
  await writer.flush();
  await log.end();
  const path = join(writer.layout.logs, `${Buffer.alloc(16, session).toString("hex")}.log`);
  fs.utimesSync(path, time / 1000, time / 1000);
  await writer.close();
}

describe("prune", () => {
  test("removes what no other snapshot needs, and nothing else", async () => {
    await store.keep("monday", machine(...range(0, 600)));
    await store.nextPack();
    await store.keep("tuesday", machine(...range(500, 1000)));
    const before = await generationOf(store);
    expect(await store.prune({ forget: ["monday"] })).toMatchObject({
      forgotten: ["monday"],
      removed: { contents: 500 },
      packs: { removed: 0, rewritten: 1, kept: 1 },
      harmed: [],
    });
    expect(await listSnapshots(await store.layout())).toEqual(["tuesday"]);
    expect(await held(store, range(0, 1000))).toEqual(range(500, 1000));
    expect(await store.restores("tuesday", machine(...range(500, 1000)))).toBe(true);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 500 });
    expect(await generationOf(store)).not.toBe(before);
    // Nobody has to read the packs to know what is in them.
    const index = await DigestIndex.open((await store.layout()).index, (error) => {
      throw error;
    });
    const sizes = (await store.packs()).map(async (pack) => [pack, fs.statSync(await store.pack(pack)).size] as const);
    expect(index.covered()).toEqual(new Map(await Promise.all(sizes)));
    expect(index.count).toBe(500);
    // The second finds nothing to do, and says so.
    const after = await generationOf(store);
    const packs = await store.packs();
    expect(await store.prune()).toMatchObject({ removed: { contents: 0, bytes: 0 }, packs: { rewritten: 0, kept: 2 } });
    expect([await generationOf(store), await store.packs()]).toEqual([after, packs]);
    // What was removed can be kept again.
    await store.keep("again", machine(...range(0, 600)));
    expect(await store.restores("again", machine(...range(0, 600)))).toBe(true);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 1000 });
  });

  test("leaves a pack alone of which most is needed, and removes one of which nothing is", async () => {
    await store.keep("a", machine(...range(0, 100)));
    await store.keep("b", machine(...range(20, 100), ...range(100, 120)));
    await store.nextPack();
    await store.keep("c", machine(...range(200, 300)));
    const whole = fs.readFileSync(await store.pack(1));
    const { removed, packs } = await store.prune({ forget: ["a", "c"] });
    expect(packs).toEqual({ removed: 1, rewritten: 0, kept: 1 });
    expect(removed.contents).toBe(100);
    expect(Buffer.compare(fs.readFileSync(await store.pack(1)), whole)).toBe(0);
    // What is there anyway can still be used.
    expect(await held(store, range(0, 300))).toEqual(range(0, 120));
    expect(await store.verify()).toMatchObject({ clean: true, contents: 120 });
  });

  test.each([
    [76, { removed: 0, rewritten: 0, kept: 1 }],
    [74, { removed: 0, rewritten: 1, kept: 0 }],
  ])("leaves a pack alone of which three quarters are needed: of %d of 100 contents", async (needed, packs) => {
    await store.keep("a", machine(...range(0, 100)));
    await store.keep("b", machine(...range(0, needed)));
    expect((await store.prune({ forget: ["a"] })).packs).toEqual(packs);
    expect(await store.restores("b", machine(...range(0, needed)))).toBe(true);
  });

  test("of everything leaves an empty store, that can be used again", async () => {
    await store.keep("a", machine(...range(0, 300)));
    expect((await store.prune({ forget: ["a"] })).removed).toMatchObject({ contents: 300 });
    expect(await store.packs()).toEqual([]);
    expect(await store.verify()).toMatchObject({ clean: true, contents: 0, packs: 0 });
    await store.keep("b", machine(...range(0, 300)));
    expect(await store.restores("b", machine(...range(0, 300)))).toBe(true);
  });

  test("with repack makes packs smaller, and changes nothing that is in them", async () => {
    const machines = { a: machine(...range(0, 1500)), b: machine(...range(1000, 2500)) };
    for (const [name, bytes] of Object.entries(machines)) await store.keep(name, bytes);
    const size = (await store.verify()).bytes;
    const before = await generationOf(store);
    expect(Math.max(...(await groupsOf(store)).map(({ count }) => count))).toBe(256);
    expect(await store.prune({ repack: true })).toMatchObject({ removed: { contents: 0 }, packs: { rewritten: 1 } });
    expect((await groupsOf(store)).map(({ count }) => count)).toEqual([1024, 1024, 452]);
    const report = await store.verify({ readData: true });
    expect(report).toMatchObject({ clean: true, contents: 2500 });
    expect(report.bytes).toBeLessThan(size);
    for (const [name, bytes] of Object.entries(machines)) expect(await store.restores(name, bytes)).toBe(true);
    // Nothing that another site knows of this one is wrong now.
    expect(await generationOf(store)).toBe(before);
  });

  test("run dry says what it would do, and does nothing", async () => {
    await store.keep("a", machine(...range(0, 600)));
    await store.keep("b", machine(...range(500, 700)));
    await hold(store, "old", range(0, 10), 1000);
    const before = filesOf(store);
    const dry = await store.prune({ forget: ["a"], dryRun: true });
    expect(filesOf(store)).toEqual(before);
    const reader = await Store.open(store.dir, { domain: DOMAIN });
    expect(await store.prune({ forget: ["a"], dryRun: true })).toEqual(dry);
    await reader.close();
    const done = await store.prune({ forget: ["a"] });
    expect({ ...done, removed: done.removed.contents }).toEqual({ ...dry, removed: dry.removed.contents });
    expect(Math.abs(done.removed.bytes - dry.removed.bytes)).toBeLessThan(dry.removed.bytes / 10);
  });

  test("keeps what holds pin, until they expire or are ended", async () => {
    await store.keep("a", machine(...range(0, 400)));
    await hold(store, "long", range(0, 100), 5000);
    await hold(store, "short", range(100, 200), 1000);
    expect(await store.prune({ forget: ["a"], now: 999 })).toMatchObject({ released: [], removed: { contents: 200 } });
    expect(await held(store, range(0, 400))).toEqual(range(0, 200));
    expect(await store.prune({ now: 1000 })).toMatchObject({ released: ["short"], removed: { contents: 100 } });
    expect(await held(store, range(0, 400))).toEqual(range(0, 100));
    expect((await listHolds(await store.layout())).map(({ name }) => name)).toEqual(["long"]);
    expect((await refusal(store.prune({ release: ["short"] }))).message).toContain('no hold "short"');
    expect(await store.prune({ release: ["long"], now: 1000 })).toMatchObject({ released: ["long"] });
    expect(await store.packs()).toEqual([]);
  });

  test("keeps what was received of late, also the next time", async () => {
    const day = 86_400_000;
    const now = 100 * day;
    await receive(1, range(0, 300), now - 20 * day);
    await receive(2, range(200, 500), now - 5 * day);
    // What is named by a session's log stays, whoever brought it.
    await store.keep("a", machine(...range(600, 700)));
    const before = await generationOf(store);
    expect(await store.prune({ now, keepReceived: 30 * day })).toMatchObject({ removed: { contents: 0 } });
    expect(await listLogs((await store.layout()).logs)).toHaveLength(2);
    expect(await generationOf(store)).toBe(before);
    await store.prune({ now, keepReceived: 10 * day });
    expect(await held(store, range(0, 700))).toEqual([...range(200, 500), ...range(600, 700)]);
    // Sources may not refer to the logs any more, which still say what was received.
    expect(await listLogs((await store.layout()).logs)).toEqual([]);
    await store.prune({ now: now + day, keepReceived: 10 * day, forget: ["a"] });
    expect(await held(store, range(0, 700))).toEqual(range(200, 500));
    await store.prune({ now: now + day, keepReceived: 0 });
    expect(await held(store, range(0, 700))).toEqual([]);
    expect(fs.readdirSync((await store.layout()).logs)).toEqual([]);
  });

  test("passes over a log that is no log, and uses one up to where it is damaged", async () => {
    const now = Date.now();
    await receive(1, range(0, 600), now);
    const { logs } = await store.layout();
    const [log] = fs.readdirSync(logs);
    fs.writeFileSync(join(logs, `${"0".repeat(32)}.log`), "?");
    store.change(join(logs, log!), flip(64 + 8200 + 100));
    await store.prune({ now: now + 1000, keepReceived: 2000 });
    expect(await held(store, range(0, 600))).toEqual(range(0, 256));
  });

  test("removes what interrupted writers have left behind", async () => {
    await store.keep("a", machine(1, 2, 3));
    const layout = await store.layout();
    const left = [
      join(layout.folder, "site.0123456789ab.new"),
      join(layout.index, "2-2.run.0123456789ab.new"),
      join(layout.holds, ".x.hold.0123456789abcdef.shrinker-partial"),
      join(layout.snapshots, ".shrinker-0123456789abcdef.partial"),
    ];
    for (const path of left) fs.writeFileSync(path, "?");
    fs.writeFileSync(join(layout.holds, "notes"), "mine");
    await store.prune();
    expect(left.filter((path) => fs.existsSync(path))).toEqual([]);
    expect(fs.existsSync(join(layout.holds, "notes"))).toBe(true);
    expect(await store.restores("a", machine(1, 2, 3))).toBe(true);
  });
});
