import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { snapshotPath } from "../../../core/site/manifest.ts";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { lockForRemoval } from "../../../core/store/exclusive.ts";
import { encodeGroup } from "../../../core/store/group.ts";
import { packHeader, scanPack } from "../../../core/store/pack.ts";
import { Store } from "../../../core/store/store.ts";
import { flip, groupsOf, refusal } from "./probe.ts";
import { DOMAIN, machine, page, range, type TestStore, testStore } from "./stores.ts";
import { broken, harmed, twoSnapshots } from "./two-snapshots.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

describe("verify finds nothing wrong", () => {
  test.each([false, true])("with a store as it was written (readData %p)", async (readData) => {
    await twoSnapshots(store);
    const report = await store.verify({ readData });
    expect(report).toMatchObject({
      clean: true,
      packs: 1,
      contents: 600,
      damaged: [],
      runs: [],
      misplaced: 0,
      notes: [],
    });
    expect(report.bytes).toBe(fs.statSync(await store.pack(1)).size);
    expect(report.needs).toEqual([
      { kind: "snapshot", name: "new", contents: 400, lacking: 0, damaged: 0, error: undefined },
      { kind: "snapshot", name: "old", contents: 300, lacking: 0, damaged: 0, error: undefined },
    ]);
  });

  test("with a store of which nothing was kept yet", async () => {
    await (await Store.open(store.dir, { domain: DOMAIN, write: true })).close();
    expect(await store.verify()).toMatchObject({ clean: true, packs: 0, contents: 0, needs: [] });
  });

  test("while another process adds to it", async () => {
    await twoSnapshots(store);
    const writer = await Store.open(store.dir, { domain: DOMAIN, write: true });
    const pages = Buffer.concat(range(1000, 1300).map(page));
    const digests = Buffer.concat(range(1000, 1300).map((n) => createHash("sha256").update(page(n)).digest()));
    await writer.put(new Uint8Array(digests), pages, 300);
    expect((await store.verify({ readData: true })).clean).toBe(true);
    await writer.flush();
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 900 });
    await writer.close();
    expect(await store.verify()).toMatchObject({ clean: true, contents: 900 });
  });

  test("where a snapshot is replaced or removed meanwhile", async () => {
    await twoSnapshots(store);
    const layout = await store.layout();
    let asked = 0;
    const signal = {
      get aborted() {
        if (asked++ > 0) return false;
        // It names what came after the places were read.
        fs.rmSync(snapshotPath(layout, "old"));
        fs.writeFileSync(snapshotPath(layout, "new"), "?");
        return false;
      },
    } as AbortSignal;
    const report = await store.verify({ signal });
    expect(report).toMatchObject({ clean: true, needs: [] });
    expect(report.notes.join("\n")).toMatch(/"new" was replaced.*\n.*"old" was replaced/);
  });

  test.each([1, 23, 24, 4000, 2_000_000])("with a last write that was cut off after %d bytes", async (length) => {
    await twoSnapshots(store);
    const group = await encodeGroup(Buffer.alloc(512 * 32, 7), Buffer.concat(range(0, 512).map(page)), 1);
    const torn = Buffer.concat(group).subarray(0, length);
    store.change(await store.pack(1), (bytes) => Buffer.concat([bytes, torn.subarray(0, -1)]));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: true, contents: 600 });
    if (length > 1) expect(report.notes.join()).toContain("cut off");
  });

  test("with files that are none of its own", async () => {
    await twoSnapshots(store);
    const { packs, index, logs } = await store.layout();
    for (const name of ["00000.pack", "65536.pack", "1.pack", "00002.pack.old"])
      fs.writeFileSync(join(packs, name), "?");
    fs.writeFileSync(join(index, "1-1.run.0123456789ab.new"), "?");
    fs.writeFileSync(join(logs, "notes"), "?");
    expect(await store.verify()).toMatchObject({ clean: true, packs: 1, contents: 600, notes: [] });
  });

  test.each([0, 5, 15])("with a last pack of which there are only %d bytes", async (length) => {
    await twoSnapshots(store);
    fs.writeFileSync(await store.pack(2), packHeader().subarray(0, length));
    expect(await store.verify()).toMatchObject({ clean: true, packs: 2, contents: 600 });
  });
});

describe("verify tells of an index that", () => {
  test("is damaged, anywhere", async () => {
    await twoSnapshots(store);
    const { index } = await store.layout();
    const names = fs.readdirSync(index);
    const path = join(index, names[0]!);
    const whole = fs.readFileSync(path);
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.nat(whole.length - 1), fc.nat(36)), async (at) => {
        fs.writeFileSync(path, flip(at)(Buffer.from(whole)));
        const report = await store.verify();
        expect(report).toMatchObject({ clean: false, damaged: [], runs: [{ path }], misplaced: 0, contents: 600 });
        expect(harmed(report)).toEqual([]);
      }),
      { numRuns: 20 },
    );
    expect(await broken(store)).toEqual([]);
  });

  test("lacks a run", async () => {
    await twoSnapshots(store);
    await store.keep("more", machine(...range(600, 1500)));
    const { index } = await store.layout();
    const [run] = fs.readdirSync(index);
    fs.renameSync(join(index, run!), join(index, "7-7.run"));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: false, runs: [{ path: index }], damaged: [] });
    expect(report.runs[0]!.why).toContain("lacks a run");
    expect(harmed(report)).toEqual([]);
  });

  test("says that it has what it lacks", async () => {
    await twoSnapshots(store);
    const { index } = await store.layout();
    const { size } = fs.statSync(await store.pack(1));
    await DigestIndex.replace(index, DigestIndex.builder().build(), new Map([[1, size]]));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: false, misplaced: 600, damaged: [], contents: 600 });
    expect(report.needs).toMatchObject([{ lacking: 400 }, { lacking: 300 }]);
    expect(await broken(store)).toEqual(["old", "new"]);
  });

  test("says that contents are where they are not", async () => {
    await twoSnapshots(store);
    const { index } = await store.layout();
    const builder = DigestIndex.builder();
    const read = { end: 0, size: 0 };
    for await (const { offset, header, digests } of scanPack(await store.pack(1), 0, read)) {
      // One slot too far, in the second group.
      const shift = offset === (await groupsOf(store))[1]!.offset ? 1 : 0;
      for (let slot = 0; slot < header.count; slot++)
        DigestIndex.put(builder, digests, slot * 32, { pack: 1, offset }, slot + shift);
    }
    await DigestIndex.replace(index, builder.build(), new Map([[1, read.end]]));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: false, misplaced: 44, damaged: [], contents: 600 });
    expect(harmed(report).sort()).toEqual((await broken(store)).sort());
  });
});

describe("verify refuses", () => {
  test("what is no store, and a domain that it has nothing of", async () => {
    expect((await refusal(store.verify())).code).toBe("input");
    await twoSnapshots(store);
    expect((await refusal(store.verify({ domain: "other" }))).message).toContain("nothing of the domain");
  });

  test("packs and runs of another version", async () => {
    await twoSnapshots(store);
    const { index } = await store.layout();
    const run = join(index, fs.readdirSync(index)[0]!);
    const whole = fs.readFileSync(run);
    store.change(run, (bytes) => {
      bytes.writeUInt16LE(2, 8);
      const packs = bytes.readUInt32LE(12);
      bytes.writeUInt32LE(crc32(bytes.subarray(28, 28 + 8 * packs), crc32(bytes.subarray(0, 24))), 24);
      return bytes;
    });
    expect((await refusal(store.verify())).code).toBe("refused");
    fs.writeFileSync(run, whole);
    store.change(await store.pack(1), (bytes) => {
      bytes.writeUInt16LE(2, 8);
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 12)), 12);
      return bytes;
    });
    expect(await refusal(store.verify())).toMatchObject({
      code: "refused",
      message: expect.stringContaining("version 2"),
    });
  });

  test("to look on while contents are removed", async () => {
    await twoSnapshots(store);
    const lock = await lockForRemoval(store.dir, await store.layout());
    expect((await refusal(store.verify())).code).toBe("refused");
    await lock.release();
    expect((await store.verify()).clean).toBe(true);
  });

  test("to go on once it is interrupted", async () => {
    await twoSnapshots(store);
    const signal = AbortSignal.abort();
    expect((await refusal(store.verify({ signal }))).code).toBe("cancelled");
    expect((await refusal(store.verify({ signal, readData: true }))).code).toBe("cancelled");
    // Nothing is locked any more.
    await store.keep("more", machine(1, 2, 3));
  });
});
