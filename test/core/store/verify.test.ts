import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { ShrinkerError } from "../../../core/errors.ts";
import { listSnapshot } from "../../../core/site/list-snapshot.ts";
import { snapshotPath } from "../../../core/site/manifest.ts";
import type { VerifyReport } from "../../../core/site/verify-store.ts";
import { DigestIndex } from "../../../core/store/digest-index.ts";
import { lockForRemoval } from "../../../core/store/exclusive.ts";
import { encodeGroup } from "../../../core/store/group.ts";
import { createHold, heldBy } from "../../../core/store/holds.ts";
import { packHeader, scanPack } from "../../../core/store/pack.ts";
import { Store } from "../../../core/store/store.ts";
import { record, source } from "../../support/session.ts";
import { DOMAIN, machine, page, range, type TestStore, testStore } from "./stores.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

/** Two snapshots that share pages, in groups of up to 256: "old" in two groups, and what "new" adds in two more. */
async function twoSnapshots(): Promise<void> {
  await store.keep("old", machine(...range(0, 300)));
  await store.keep("new", machine(...range(200, 600)));
}
const machines: Record<string, Buffer> = { old: machine(...range(0, 300)), new: machine(...range(200, 600)) };

/** Names of what is harmed. */
function harmed({ needs }: VerifyReport): string[] {
  return needs.filter(({ lacking, damaged, error }) => error || lacking + damaged > 0).map(({ name }) => name);
}

async function broken(): Promise<string[]> {
  const names: string[] = [];
  for (const name of Object.keys(machines)) if (!(await store.restores(name, machines[name]!))) names.push(name);
  return names;
}

async function groups(pack: number): Promise<{ offset: number; count: number; end: number }[]> {
  const found: { offset: number; count: number; end: number }[] = [];
  const read = { end: 0, size: 0 };
  for await (const { offset, header } of scanPack(await store.pack(pack), 0, read)) {
    if (found.length > 0) found.at(-1)!.end = offset;
    found.push({ offset, count: header.count, end: 0 });
  }
  if (found.length > 0) found.at(-1)!.end = read.end;
  return found;
}

const flip = (at: number) => (bytes: Buffer) => {
  bytes[at]! ^= 1 << (at % 8);
  return bytes;
};

async function refusal(work: Promise<unknown>): Promise<ShrinkerError> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  expect(error.message).not.toContain("\n");
  return error;
}

describe("verify finds nothing wrong", () => {
  test.each([false, true])("with a store as it was written (readData %p)", async (readData) => {
    await twoSnapshots();
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
    await twoSnapshots();
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
    await twoSnapshots();
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
    await twoSnapshots();
    const group = await encodeGroup(Buffer.alloc(512 * 32, 7), Buffer.concat(range(0, 512).map(page)), 1);
    const torn = Buffer.concat(group).subarray(0, length);
    store.change(await store.pack(1), (bytes) => Buffer.concat([bytes, torn.subarray(0, -1)]));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: true, contents: 600 });
    if (length > 1) expect(report.notes.join()).toContain("cut off");
  });

  test("with files that are none of its own", async () => {
    await twoSnapshots();
    const { packs, index, logs } = await store.layout();
    for (const name of ["00000.pack", "65536.pack", "1.pack", "00002.pack.old"])
      fs.writeFileSync(join(packs, name), "?");
    fs.writeFileSync(join(index, "1-1.run.0123456789ab.new"), "?");
    fs.writeFileSync(join(logs, "notes"), "?");
    expect(await store.verify()).toMatchObject({ clean: true, packs: 1, contents: 600, notes: [] });
  });

  test.each([0, 5, 15])("with a last pack of which there are only %d bytes", async (length) => {
    await twoSnapshots();
    fs.writeFileSync(await store.pack(2), packHeader().subarray(0, length));
    expect(await store.verify()).toMatchObject({ clean: true, packs: 2, contents: 600 });
  });
});

describe("verify says which snapshots are harmed", () => {
  test("by any byte of a pack that is flipped: those that can't be restored", async () => {
    await twoSnapshots();
    const path = await store.pack(1);
    const whole = fs.readFileSync(path);
    const [first, second, third] = (await groups(1)) as { offset: number }[];
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
        expect(harmed(report).sort()).toEqual((await broken()).sort());
      }),
      { numRuns: 40 },
    );
  });

  test("by a pack that is cut short anywhere", async () => {
    await twoSnapshots();
    const path = await store.pack(1);
    const whole = fs.readFileSync(path);
    const ends = (await groups(1)).map(({ end }) => end).slice(0, -1);
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.nat(whole.length - 1), fc.constantFrom(...ends, 0, 16)), async (length) => {
        fs.writeFileSync(path, whole.subarray(0, length));
        const report = await store.verify();
        expect(report.damaged).toMatchObject([{ path, why: expect.stringContaining("cut short") }]);
        expect(report.damaged[0]!.contents + report.contents).toBe(600);
        expect(harmed(report).sort()).toEqual((await broken()).sort());
      }),
      { numRuns: 25 },
    );
  });

  test("by a group whose body is damaged, and reads on behind it", async () => {
    await twoSnapshots();
    const [, , third] = await groups(1);
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
    await twoSnapshots();
    const [first, second] = await groups(1);
    store.change(await store.pack(1), flip(first!.offset + 4));
    const report = await store.verify();
    expect(report).toMatchObject({ contents: 344, misplaced: 0 });
    expect(report.damaged).toMatchObject([{ offset: first!.offset, contents: 256 }]);
    store.change(await store.pack(1), flip(second!.offset + 4));
    expect((await store.verify()).damaged).toMatchObject([{ offset: first!.offset, contents: 300 }]);
    expect(harmed(await store.verify()).sort()).toEqual((await broken()).sort());
  });

  test("by a head that is damaged, behind which nothing is known without an index", async () => {
    await twoSnapshots();
    await store.nextPack();
    await store.keep("other", machine(...range(700, 720)));
    const [, second] = await groups(1);
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
    expect(await broken()).toEqual(["old", "new"]);
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
    await twoSnapshots();
    const path = await store.pack(1);
    const [first] = await groups(1);
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
    await twoSnapshots();
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
    await twoSnapshots();
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
    await twoSnapshots();
    const layout = await store.layout();
    const reader = await Store.open(store.dir, { domain: DOMAIN });
    const { table } = await listSnapshot(snapshotPath(layout, "old"), reader);
    await reader.close();
    await createHold(layout, { name: "held", created: 0, expires: 1000, table });
    expect((await heldBy(layout, "held")).count).toBe(300);
    store.change(await store.pack(1), flip((await groups(1))[0]!.end - 1));
    expect(harmed(await store.verify({ now: 999 }))).toEqual(["new", "old", "held"]);
    expect(harmed(await store.verify({ now: 1000 }))).toEqual(["new", "old"]);
    fs.writeFileSync(join(layout.holds, "held.hold"), "");
    expect((await store.verify({ now: 1000 })).needs.at(-1)).toMatchObject({
      kind: "hold",
      error: { code: "integrity" },
    });
  });
});

describe("verify tells of an index that", () => {
  test("is damaged, anywhere", async () => {
    await twoSnapshots();
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
    expect(await broken()).toEqual([]);
  });

  test("lacks a run", async () => {
    await twoSnapshots();
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
    await twoSnapshots();
    const { index } = await store.layout();
    const { size } = fs.statSync(await store.pack(1));
    await DigestIndex.replace(index, DigestIndex.builder().build(), new Map([[1, size]]));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: false, misplaced: 600, damaged: [], contents: 600 });
    expect(report.needs).toMatchObject([{ lacking: 400 }, { lacking: 300 }]);
    expect(await broken()).toEqual(["old", "new"]);
  });

  test("says that contents are where they are not", async () => {
    await twoSnapshots();
    const { index } = await store.layout();
    const builder = DigestIndex.builder();
    const read = { end: 0, size: 0 };
    for await (const { offset, header, digests } of scanPack(await store.pack(1), 0, read)) {
      // One slot too far, in the second group.
      const shift = offset === (await groups(1))[1]!.offset ? 1 : 0;
      for (let slot = 0; slot < header.count; slot++)
        DigestIndex.put(builder, digests, slot * 32, { pack: 1, offset }, slot + shift);
    }
    await DigestIndex.replace(index, builder.build(), new Map([[1, read.end]]));
    const report = await store.verify();
    expect(report).toMatchObject({ clean: false, misplaced: 44, damaged: [], contents: 600 });
    expect(harmed(report).sort()).toEqual((await broken()).sort());
  });
});

describe("verify refuses", () => {
  test("what is no store, and a domain that it has nothing of", async () => {
    expect((await refusal(store.verify())).code).toBe("input");
    await twoSnapshots();
    expect((await refusal(store.verify({ domain: "other" }))).message).toContain("nothing of the domain");
  });

  test("packs and runs of another version", async () => {
    await twoSnapshots();
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
    await twoSnapshots();
    const lock = await lockForRemoval(store.dir, await store.layout());
    expect((await refusal(store.verify())).code).toBe("refused");
    await lock.release();
    expect((await store.verify()).clean).toBe(true);
  });

  test("to go on once it is interrupted", async () => {
    await twoSnapshots();
    const signal = AbortSignal.abort();
    expect((await refusal(store.verify({ signal }))).code).toBe("cancelled");
    expect((await refusal(store.verify({ signal, readData: true }))).code).toBe("cancelled");
    // Nothing is locked any more.
    await store.keep("more", machine(1, 2, 3));
  });
});
