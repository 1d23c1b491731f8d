import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { ShrinkerError } from "../../../core/errors.ts";
import { ContentSet } from "../../../core/site/content-set.ts";
import { listSnapshots, snapshotPath } from "../../../core/site/manifest.ts";
import { LogWriter, listLogs } from "../../../core/store/content-log.ts";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { lockForRemoval } from "../../../core/store/exclusive.ts";
import { encodeGroup } from "../../../core/store/group.ts";
import { createHold, listHolds } from "../../../core/store/holds.ts";
import { readIdentity } from "../../../core/store/layout.ts";
import { LiveContents } from "../../../core/store/live-contents.ts";
import { packHeader, scanPack } from "../../../core/store/pack.ts";
import { freeNumbers } from "../../../core/store/pack-numbers.ts";
import { Store } from "../../../core/store/store.ts";
import { DOMAIN, machine, page, range, type TestStore, testStore } from "./stores.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

const digest = (number: number) => createHash("sha256").update(page(number)).digest();

async function refusal(work: Promise<unknown>): Promise<ShrinkerError> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  expect(error.message).not.toContain("\n");
  return error;
}

const flip = (at: number) => (bytes: Buffer) => {
  bytes[at]! ^= 1 << (at % 8);
  return bytes;
};

/** Which of these pages the store can give. */
async function held(numbers: readonly number[]): Promise<number[]> {
  const reader = await Store.open(store.dir, { domain: DOMAIN });
  try {
    const found = new Uint8Array(numbers.length);
    const digests = new Uint8Array(Buffer.concat(numbers.map(digest)));
    await reader.fetch(digests, numbers.length, found, Buffer.alloc(numbers.length * 4096));
    return numbers.filter((_, i) => found[i] === 1);
  } finally {
    await reader.close();
  }
}

async function groups(): Promise<{ pack: number; offset: number; count: number }[]> {
  const found: { pack: number; offset: number; count: number }[] = [];
  for (const pack of await store.packs()) {
    for await (const { offset, header } of scanPack(await store.pack(pack), 0, { end: 0, size: 0 }))
      found.push({ pack, offset, count: header.count });
  }
  return found;
}

/** Every file of a store, by its path. */
function files(dir = store.dir): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of fs.readdirSync(dir, { recursive: true }) as string[]) {
    const path = join(dir, name);
    if (fs.statSync(path).isFile()) found[name] = createHash("sha256").update(fs.readFileSync(path)).digest("hex");
  }
  return found;
}

async function generation(): Promise<string> {
  return (await readIdentity(await store.layout())).generation.toString("hex");
}

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

async function hold(name: string, numbers: readonly number[], expires: number): Promise<void> {
  const set = new ContentSet();
  for (const number of numbers) set.add(digest(number), 0);
  await createHold(await store.layout(), { name, created: 0, expires, table: set.table() });
}

describe("prune", () => {
  test("removes what no other snapshot needs, and nothing else", async () => {
    await store.keep("monday", machine(...range(0, 600)));
    await store.nextPack();
    await store.keep("tuesday", machine(...range(500, 1000)));
    const before = await generation();
    expect(await store.prune({ forget: ["monday"] })).toMatchObject({
      forgotten: ["monday"],
      removed: { contents: 500 },
      packs: { removed: 0, rewritten: 1, kept: 1 },
      harmed: [],
    });
    expect(await listSnapshots(await store.layout())).toEqual(["tuesday"]);
    expect(await held(range(0, 1000))).toEqual(range(500, 1000));
    expect(await store.restores("tuesday", machine(...range(500, 1000)))).toBe(true);
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 500 });
    expect(await generation()).not.toBe(before);
    // Nobody has to read the packs to know what is in them.
    const index = await DigestIndex.open((await store.layout()).index, (error) => {
      throw error;
    });
    const sizes = (await store.packs()).map(async (pack) => [pack, fs.statSync(await store.pack(pack)).size] as const);
    expect(index.covered()).toEqual(new Map(await Promise.all(sizes)));
    expect(index.count).toBe(500);
    // The second finds nothing to do, and says so.
    const after = await generation();
    const packs = await store.packs();
    expect(await store.prune()).toMatchObject({ removed: { contents: 0, bytes: 0 }, packs: { rewritten: 0, kept: 2 } });
    expect([await generation(), await store.packs()]).toEqual([after, packs]);
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
    expect(await held(range(0, 300))).toEqual(range(0, 120));
    expect(await store.verify()).toMatchObject({ clean: true, contents: 120 });
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
    const before = await generation();
    expect(Math.max(...(await groups()).map(({ count }) => count))).toBe(256);
    expect(await store.prune({ repack: true })).toMatchObject({ removed: { contents: 0 }, packs: { rewritten: 1 } });
    expect((await groups()).map(({ count }) => count)).toEqual([1024, 1024, 452]);
    const report = await store.verify({ readData: true });
    expect(report).toMatchObject({ clean: true, contents: 2500 });
    expect(report.bytes).toBeLessThan(size);
    for (const [name, bytes] of Object.entries(machines)) expect(await store.restores(name, bytes)).toBe(true);
    // Nothing that another site knows of this one is wrong now.
    expect(await generation()).toBe(before);
  });

  test("run dry says what it would do, and does nothing", async () => {
    await store.keep("a", machine(...range(0, 600)));
    await store.keep("b", machine(...range(500, 700)));
    await hold("old", range(0, 10), 1000);
    const before = files();
    const dry = await store.prune({ forget: ["a"], dryRun: true });
    expect(files()).toEqual(before);
    const reader = await Store.open(store.dir, { domain: DOMAIN });
    expect(await store.prune({ forget: ["a"], dryRun: true })).toEqual(dry);
    await reader.close();
    const done = await store.prune({ forget: ["a"] });
    expect({ ...done, removed: done.removed.contents }).toEqual({ ...dry, removed: dry.removed.contents });
    expect(Math.abs(done.removed.bytes - dry.removed.bytes)).toBeLessThan(dry.removed.bytes / 10);
  });

  test("keeps what holds pin, until they expire or are ended", async () => {
    await store.keep("a", machine(...range(0, 400)));
    await hold("long", range(0, 100), 5000);
    await hold("short", range(100, 200), 1000);
    expect(await store.prune({ forget: ["a"], now: 999 })).toMatchObject({ released: [], removed: { contents: 200 } });
    expect(await held(range(0, 400))).toEqual(range(0, 200));
    expect(await store.prune({ now: 1000 })).toMatchObject({ released: ["short"], removed: { contents: 100 } });
    expect(await held(range(0, 400))).toEqual(range(0, 100));
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
    const before = await generation();
    expect(await store.prune({ now, keepReceived: 30 * day })).toMatchObject({ removed: { contents: 0 } });
    expect(await listLogs((await store.layout()).logs)).toHaveLength(2);
    expect(await generation()).toBe(before);
    await store.prune({ now, keepReceived: 10 * day });
    expect(await held(range(0, 700))).toEqual([...range(200, 500), ...range(600, 700)]);
    // Sources may not refer to the logs any more, which still say what was received.
    expect(await listLogs((await store.layout()).logs)).toEqual([]);
    await store.prune({ now: now + day, keepReceived: 10 * day, forget: ["a"] });
    expect(await held(range(0, 700))).toEqual(range(200, 500));
    await store.prune({ now: now + day, keepReceived: 0 });
    expect(await held(range(0, 700))).toEqual([]);
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
    expect(await held(range(0, 600))).toEqual(range(0, 256));
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

describe("prune after damage", () => {
  const a = machine(...range(0, 300));
  const b = machine(...range(200, 600));
  beforeEach(async () => {
    await store.keep("a", a);
    await store.keep("b", b);
  });

  test("to a group drops it, says who lacks it, and keeping that again makes all whole", async () => {
    const [first, second] = await groups();
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
    const [first] = await groups();
    store.change(await store.pack(1), flip(first!.offset + 1));
    expect((await store.prune()).harmed).toMatchObject([
      { name: "a", lacking: 256 },
      { name: "b", lacking: 56 },
    ]);
    expect(await held(range(0, 600))).toEqual(range(256, 600));
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
    expect(await held(range(0, 600))).toEqual(range(0, 556));
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
    const before = await generation();
    await store.prune();
    expect(await store.verify()).toMatchObject({ clean: true, contents: 600 });
    expect(await generation()).toBe(before);
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
    const before = await generation();
    const { harmed, removed } = await store.prune({ repack: true });
    expect(harmed).toEqual([{ kind: "snapshot", name: "c", lacking: 1 }]);
    expect(removed.contents).toBe(1);
    expect(await generation()).not.toBe(before);
    expect(await held(numbers)).toEqual(numbers.filter((number) => number !== 707));
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
    await hold("held", range(0, 100), 1e15);
    const layout = await store.layout();
    const path = what === "hold" ? join(layout.holds, "held.hold") : snapshotPath(layout, "a");
    store.change(path, (bytes) => bytes.subarray(0, -1));
    const before = files();
    const error = await refusal(store.prune({ forget: ["b"] }));
    expect(error.code).toBe("integrity");
    expect(error.message).toContain(what === "hold" ? "--release held" : "--forget a");
    expect(files()).toEqual(before);
    const given = what === "hold" ? { release: ["held"] } : { forget: ["a"] };
    expect((await store.prune(given)).harmed).toEqual([]);
    expect((await store.verify()).clean).toBe(true);
  });
});

describe("prune refuses", () => {
  test("snapshots that are not there, and forgets none of the others", async () => {
    await store.keep("a", machine(1, 2, 3));
    const before = files();
    const error = await refusal(store.prune({ forget: ["a", "b"] }));
    expect([error.code, error.message]).toEqual(["input", 'There is no snapshot "b" in the store']);
    expect(files()).toEqual(before);
  });

  test("while another writes or reads, and they while it prunes", async () => {
    await store.keep("a", machine(...range(0, 300)));
    for (const write of [true, false]) {
      const other = await Store.open(store.dir, { domain: DOMAIN, write });
      const error = await refusal(store.prune({ forget: ["a"] }));
      expect(error.code).toBe("refused");
      expect(error.message).toContain(write ? "writes to the store" : "reads the store");
      await other.close();
    }
    const lock = await lockForRemoval(store.dir, await store.layout());
    for (const write of [true, false])
      expect((await refusal(Store.open(store.dir, { domain: DOMAIN, write }))).code).toBe("refused");
    expect((await refusal(store.prune({ dryRun: true }))).code).toBe("refused");
    expect((await refusal(store.prune())).code).toBe("refused");
    await lock.release();
    expect((await store.prune({ forget: ["a"] })).forgotten).toEqual(["a"]);
  });

  test("to go on once it is interrupted, and leaves no half of a pack", async () => {
    const machines = { a: machine(...range(0, 600)), b: machine(...range(500, 1500)) };
    for (const [name, bytes] of Object.entries(machines)) await store.keep(name, bytes);
    expect((await refusal(store.prune({ signal: AbortSignal.abort() }))).code).toBe("cancelled");
    // Once it writes: the first sight of a new pack ends it.
    const controller = new AbortController();
    const { packs } = await store.layout();
    const watcher = fs.watch(packs, () => controller.abort());
    const interrupted = await store.prune({ forget: ["a"], repack: true, signal: controller.signal }).catch((e) => e);
    watcher.close();
    if (interrupted instanceof ShrinkerError)
      expect([interrupted.code, await store.packs()]).toEqual(["cancelled", [1]]);
    expect(await store.restores("b", machines.b)).toBe(true);
    expect(await store.prune()).toMatchObject({ harmed: [] });
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 1000 });
  });

  test.if(process.getuid?.() !== 0)("a store that is read-only, which can be verified", async () => {
    await store.keep("a", machine(...range(0, 300)));
    const { folder } = await store.layout();
    const folders = [folder, ...["packs", "index", "snapshots"].map((name) => join(folder, name))];
    for (const path of folders) fs.chmodSync(path, 0o500);
    try {
      expect((await store.verify({ readData: true })).clean).toBe(true);
      expect(await store.prune({ forget: ["a"], dryRun: true })).toMatchObject({ removed: { contents: 300 } });
      expect((await refusal(store.prune({ forget: ["a"] }))).message).toContain("permission denied");
    } finally {
      for (const path of folders) fs.chmodSync(path, 0o700);
    }
    expect(await store.restores("a", machine(...range(0, 300)))).toBe(true);
  });
});

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

test("whatever is kept and forgotten, what is left restores, and nothing needless is left", () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("keep" as const),
        from: fc.nat(400),
        length: fc.integer({ min: 1, max: 400 }),
        next: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("prune" as const), forget: fc.nat(99), repack: fc.boolean() }),
    },
  );
  return fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 9 }), async (steps) => {
      using own = testStore();
      const model = new Map<string, number[]>();
      for (const [i, step] of steps.entries()) {
        if (step.kind === "keep") {
          const numbers = range(step.from, step.from + step.length);
          if (step.next && model.size > 0) await own.nextPack();
          await own.keep(`s${i}`, machine(...numbers));
          model.set(`s${i}`, numbers);
          continue;
        }
        if (model.size === 0) continue;
        const names = [...model.keys()];
        const forget = names.filter((_, k) => ((step.forget >> k) & 1) === 1);
        for (const name of forget) model.delete(name);
        const report = await own.prune({ forget, repack: step.repack });
        expect(report.harmed).toEqual([]);
        const needed = new Set([...model.values()].flat());
        const verified = await own.verify({ readData: true });
        expect(verified.clean).toBe(true);
        expect(verified.contents).toBeGreaterThanOrEqual(needed.size);
        // A quarter of a pack may be needless, where it is not worth writing it anew.
        expect(verified.contents).toBeLessThanOrEqual(step.repack ? needed.size : needed.size / 0.74);
      }
      for (const [name, numbers] of model) expect(await own.restores(name, machine(...numbers))).toBe(true);
    }),
    { numRuns: 15 },
  );
}, 60_000);

test("of live contents a pack that turns out unreadable keeps none", () => {
  const set = new ContentSet();
  for (const number of range(0, 4)) set.add(digest(number), 0);
  const live = new LiveContents(set.table());
  const numbers = range(0, 4).map((number) => live.find(digest(number), 0));
  expect([...numbers].sort()).toEqual(range(0, 4));
  expect(live.find(digest(4), 0)).toBe(-1);
  for (const [i, number] of numbers.entries()) live.keep(number, i < 2 ? 7 : 65_535);
  live.release(7);
  expect(numbers.map((number) => live.packOf(number))).toEqual([0, 0, 65_535, 65_535]);
  expect(live.lacking(Buffer.concat(range(0, 6).map(digest)), 32)).toBe(4);
});

describe("numbers for new packs", () => {
  test("are in a row, free, and behind all others while there are such", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 65_535 }), { maxLength: 50 }),
        fc.nat(3000),
        (taken, count) => {
          const first = freeNumbers(taken, count);
          expect(first).toBeGreaterThanOrEqual(1);
          expect(first + count - 1).toBeLessThanOrEqual(65_535);
          expect(taken.filter((number) => number >= first && number < first + count)).toEqual([]);
          const last = Math.max(0, ...taken);
          if (last + count <= 65_535) expect(first).toBe(last + 1);
        },
      ),
    );
  });

  test("run out", () => {
    expect(freeNumbers([1, 2, 5, 65_535], 2)).toBe(3);
    expect(freeNumbers([1, 2, 5, 65_535], 3)).toBe(6);
    expect(() => freeNumbers(range(1, 65_536), 1)).toThrow(ShrinkerError);
    expect(freeNumbers([], 65_535)).toBe(1);
    expect(() => freeNumbers([30_000], 40_000)).toThrow("no numbers");
  });
});
