import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { listSnapshot } from "../../../core/site/list-snapshot.ts";
import { snapshotPath } from "../../../core/site/manifest.ts";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { encodeGroup } from "../../../core/store/group.ts";
import { createHold, heldBy } from "../../../core/store/holds.ts";
import { packHeader } from "../../../core/store/pack.ts";
import { Store } from "../../../core/store/store.ts";
import { record, source } from "../../support/session.ts";
import { flip, groupsOf } from "./probe.ts";
import { DOMAIN, machine, page, range, type TestStore, testStore } from "./stores.ts";
import { broken, harmed, machines, twoSnapshots } from "./two-snapshots.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

describe("verify says which snapshots are harmed", () => {
  test("by any byte of a pack that is flipped: those that can't be restored", async () => {
    await twoSnapshots(store);
    const path = await store.pack(1);
    const whole = fs.readFileSync(path);
    const [first, second, third] = (await groupsOf(store)) as { offset: number }[];
    // Heads and digests are hit more often than their share.
    const anywhere = fc.oneof(
      fc.nat(whole.length - 1),
      fc.nat(16 + 24 + 256 * 32),
      fc.nat(24 + 44 * 32).map((at) => second!.offset + at),
      fc.nat(24).map((at) => third!.offset + at),
      fc.constant(first!.offset),
    );
    await fc.assert(
      fc.asyncProperty(anywhere, async (at) => {
        fs.writeFileSync(path, flip(at)(Buffer.from(whole)));
        const report = await store.verify();
        expect(report.clean).toBe(false);
        expect(report.damaged).toHaveLength(1);
        expect(harmed(report).sort()).toEqual((await broken(store)).sort());
      }),
      { numRuns: 40 },
    );
  });

  test("by a pack that is cut short anywhere", async () => {
    await twoSnapshots(store);
    const path = await store.pack(1);
    const whole = fs.readFileSync(path);
    const ends = (await groupsOf(store)).map(({ end }) => end).slice(0, -1);
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.nat(whole.length - 1), fc.constantFrom(...ends, 0, 16)), async (length) => {
        fs.writeFileSync(path, whole.subarray(0, length));
        const report = await store.verify();
        expect(report.damaged).toMatchObject([{ path, why: expect.stringContaining("cut short") }]);
        expect(report.damaged[0]!.contents + report.contents).toBe(600);
        expect(harmed(report).sort()).toEqual((await broken(store)).sort());
      }),
      { numRuns: 25 },
    );
  });

  test("by a group whose body is damaged, and reads on behind it", async () => {
    await twoSnapshots(store);
    const [, , third] = await groupsOf(store);
    store.change(await store.pack(1), flip(third!.end - 1));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: false, contents: 600 - third!.count, misplaced: 0, runs: [] });
    expect(report.damaged).toMatchObject([{ offset: third!.offset, contents: third!.count }]);
    expect(report.needs).toMatchObject([
      { name: "new", damaged: third!.count, lacking: 0 },
      { name: "old", damaged: 0 },
    ]);
  });

  test("by a group whose head is damaged, and goes on where the index knows the next", async () => {
    await twoSnapshots(store);
    const [first, second] = await groupsOf(store);
    store.change(await store.pack(1), flip(first!.offset + 4));
    const report = await store.verify();
    expect(report).toMatchObject({ contents: 344, misplaced: 0 });
    expect(report.damaged).toMatchObject([{ offset: first!.offset, contents: 256 }]);
    store.change(await store.pack(1), flip(second!.offset + 4));
    expect((await store.verify()).damaged).toMatchObject([{ offset: first!.offset, contents: 300 }]);
    expect(harmed(await store.verify()).sort()).toEqual((await broken(store)).sort());
  });

  test("by a head that is damaged, behind which nothing is known without an index", async () => {
    await twoSnapshots(store);
    await store.nextPack();
    await store.keep("other", machine(...range(700, 720)));
    const [, second] = await groupsOf(store);
    store.change(await store.pack(1), flip(second!.offset));
    fs.rmSync((await store.layout()).index, { recursive: true });
    fs.mkdirSync((await store.layout()).index);
    const report = await store.verify();
    expect(report.damaged).toMatchObject([{ offset: second!.offset, contents: 0 }]);
    expect(report.contents).toBe(256 + 20);
    expect(harmed(report).sort()).toEqual(["new", "old"]);
    expect(report.needs).toMatchObject([
      { name: "new", lacking: 344 },
      { name: "old", lacking: 44 },
      { name: "other" },
    ]);
    expect(await broken(store)).toEqual(["old", "new"]);
  });

  test("by a pack that is missing", async () => {
    await store.keep("old", machines.old!);
    await store.nextPack();
    await store.keep("new", machines.new!);
    fs.rmSync(await store.pack(2));
    const report = await store.verify();
    const missing = { path: await store.pack(2), offset: 0, contents: 300, why: "it is missing" };
    expect(report.damaged).toMatchObject([missing]);
    expect(harmed(report)).toEqual(["new"]);
    fs.rmSync(await store.pack(1));
    expect(harmed(await store.verify())).toEqual(["new", "old"]);
  });

  test("by a pack that can't be read, and reads the others", async () => {
    await store.keep("old", machines.old!);
    await store.nextPack();
    await store.keep("new", machines.new!);
    fs.renameSync(await store.pack(1), join(store.dir, "aside"));
    // A folder opens, but does not read.
    fs.mkdirSync(await store.pack(1));
    const report = await store.verify();
    expect(report).toMatchObject({ contents: 300, damaged: [{ path: await store.pack(1), contents: 300 }] });
    expect(report.damaged[0]!.why).toContain("it is a directory");
    expect(harmed(report)).toEqual(["new", "old"]);
  });

  test("by contents that are not what their digests say, which only --read-data sees", async () => {
    await twoSnapshots(store);
    const path = await store.pack(1);
    const [first] = await groupsOf(store);
    const whole = fs.readFileSync(path);
    const digests = whole.subarray(first!.offset + 24, first!.offset + 24 + 256 * 32);
    const pages = Buffer.concat(range(0, 256).map(page));
    pages[5 * 4096]! ^= 1;
    pages[250 * 4096]! ^= 1;
    const forged = Buffer.concat(await encodeGroup(digests, pages, 1));
    expect(forged.length).toBeLessThan(whole.length);
    // The same group, with wrong contents; what is behind it moves, so it is the only one.
    fs.writeFileSync(path, Buffer.concat([packHeader(), forged]));
    const layout = await store.layout();
    const builder = DigestIndex.builder();
    for (let slot = 0; slot < 256; slot++) DigestIndex.put(builder, digests, slot * 32, { pack: 1, offset: 16 }, slot);
    await DigestIndex.replace(layout.index, builder.build(), new Map([[1, 16 + forged.length]]));
    fs.rmSync(snapshotPath(layout, "new"));
    await store.keep("old", machines.old!);
    expect(await store.verify()).toMatchObject({ clean: true, contents: 300 });
    const report = await store.verify({ readData: true });
    expect(report).toMatchObject({ clean: false, contents: 298, damaged: [{ offset: 16, contents: 2 }] });
    expect(report.needs).toMatchObject([{ name: "old", contents: 300, damaged: 2, lacking: 0 }]);
  });

  test.each(["cut", "flipped", "emptied"])("whose manifest is %s", async (how) => {
    await twoSnapshots(store);
    const path = snapshotPath(await store.layout(), "old");
    const size = fs.statSync(path).size;
    if (how === "flipped") store.change(path, flip(size >> 1));
    else store.change(path, (bytes) => bytes.subarray(0, how === "cut" ? -1 : 0));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: false, damaged: [], misplaced: 0 });
    expect(harmed(report)).toEqual(["old"]);
    expect(report.needs[1]!.error?.code).toBe("integrity");
  });

  test("whose manifest is of another version, or brings contents of its own", async () => {
    await twoSnapshots(store);
    const path = snapshotPath(await store.layout(), "old");
    store.change(path, (bytes) => {
      bytes.writeUInt16LE(9, 8);
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 12)), 12);
      return bytes;
    });
    const report = await store.verify();
    expect(report.needs).toMatchObject([
      { name: "new", error: undefined },
      { name: "old", error: { code: "refused" } },
    ]);
    expect(report.clean).toBe(false);
    // A bundle is restored, but what is in it is in no pack.
    fs.writeFileSync(path, await record([source("machine", "raw", [machines.old!])], { domain: DOMAIN }));
    expect((await store.verify()).needs).toMatchObject([
      { name: "new" },
      { name: "old", error: { code: "integrity" } },
    ]);
  });

  test("and holds, unless they have expired", async () => {
    await twoSnapshots(store);
    const layout = await store.layout();
    const reader = await Store.open(store.dir, { domain: DOMAIN });
    const { table } = await listSnapshot(snapshotPath(layout, "old"), reader);
    await reader.close();
    await createHold(layout, { name: "held", created: 0, expires: 1000, table });
    expect((await heldBy(layout, "held")).count).toBe(300);
    store.change(await store.pack(1), flip((await groupsOf(store))[0]!.end - 1));
    expect(harmed(await store.verify({ now: 999 }))).toEqual(["new", "old", "held"]);
    expect(harmed(await store.verify({ now: 1000 }))).toEqual(["new", "old"]);
    fs.writeFileSync(join(layout.holds, "held.hold"), "");
    expect((await store.verify({ now: 1000 })).needs.at(-1)).toMatchObject({
      kind: "hold",
      error: { code: "integrity" },
    });
  });
});
