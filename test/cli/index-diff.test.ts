// What sources have in common, and what a move would cost.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openLayout } from "../../core/store/layout.ts";
import { cli } from "../support/cli.ts";
import { expectError, PAGE, run, type Shared, shared } from "./shared.ts";

let here: Shared;
const path = (...names: string[]) => here.path(...names);
beforeAll(async () => {
  here = await shared();
}, 30_000);
afterAll(() => here[Symbol.dispose]());

describe("index", () => {
  test("says what each machine is made of, and what each pair shares", async () => {
    const { code, events, summary } = await run("index", path("base.raw"), path("web.raw"), `x=${path("db.raw")}`);
    expect(code).toBe(0);
    const sources = events.filter(({ type }) => type === "source");
    expect(sources).toHaveLength(3);
    expect(sources[1]).toEqual({
      type: "source",
      name: "web.raw",
      kind: "machine",
      format: "raw",
      bytes: { plain: 110 * PAGE + 7, zero: 20 * PAGE, duplicate: 10 * PAGE, distinct: 80 * PAGE, literal: 7 },
      pages: { zero: 20, duplicate: 10, distinct: 80 },
    });
    expect(summary).toMatchObject({
      type: "summary",
      ok: true,
      sources: ["base.raw", "web.raw", "x"],
      bytes: { plain: 351 * PAGE + 7, zero: 20 * PAGE, duplicate: 100 * PAGE, distinct: 231 * PAGE, literal: 7 },
      pages: { zero: 20, duplicate: 100, distinct: 231 },
      shared: [
        [200, 50, 40],
        [50, 80, 0],
        [40, 0, 41],
      ],
    });
  });

  test("compares machines with snapshots, stores and indexes", async () => {
    const index = path("mixed.index");
    expect((await run("index", path("db.raw"), "-o", index)).code).toBe(0);
    const { summary, events } = await run(
      "index",
      "snapshot:monday",
      path("web.raw"),
      index,
      `store:${path("store")}`,
      ...here.inStore,
    );
    expect(summary.sources).toEqual(["snapshot:monday/base.raw", "web.raw", index, `store:${path("store")}`]);
    expect(summary.shared).toEqual([
      [200, 50, 40, 200],
      [50, 80, 0, 50],
      [40, 0, 41, 40],
      [200, 50, 40, 200],
    ]);
    expect([summary.bytes, summary.pages]).toEqual([{ distinct: 231 * PAGE }, { distinct: 231 }]);
    expect(events[0]).toMatchObject({ kind: "snapshot", format: "raw", bytes: { plain: 200 * PAGE } });
    expect(events[3]).toMatchObject({ kind: "store", bytes: { distinct: 200 * PAGE }, pages: { distinct: 200 } });
  });

  test("prints it for people", async () => {
    const { code, stdout } = await cli(["index", path("base.raw"), path("web.raw")]);
    expect(code).toBe(0);
    const lines = stdout.toString().split("\n");
    expect(lines.find((line) => line.startsWith("1 base.raw"))).toContain("25.0 %");
    expect(lines.find((line) => line.startsWith("2 web.raw"))).toContain("62.5 %");
    expect(lines.find((line) => line.startsWith("all"))).toContain("942.1 kB");
  });

  test("of a store alone lists all of it; a hold is called after the index", async () => {
    const index = path("store.index");
    const { code, summary } = await run("index", ...here.inStore, "-o", index, "--hold", "30d");
    expect(code).toBe(0);
    const digest = readFileSync(index).subarray(-32).toString("hex");
    expect(summary.index).toMatchObject({ path: index, digest, contents: 200, seeds: [] });
    expect(summary.hold.name).toBe(`index-${digest.slice(0, 16)}`);
    const age = Date.parse(summary.hold.expires) - Date.now();
    expect(age).toBeGreaterThan(29.9 * 86_400e3);
    expect(age).toBeLessThanOrEqual(30 * 86_400e3);
    const holds = (await openLayout(path("store"), "default", false)).holds;
    expect(readdirSync(holds)).toContain(`${summary.hold.name}.hold`);
    const again = await cli(["index", ...here.inStore, "--out", index, "--force", "--hold", "1h"]);
    expect([again.code, again.stdout.toString()]).toEqual([0, expect.stringContaining("--release index-")]);
  });

  test.each<[string, () => string[], number, string]>([
    ["nothing", () => [], 2, "Nothing to index"],
    ["a snapshot of no store", () => ["snapshot:monday"], 2, "Which store?"],
    ["a snapshot that is not there", () => ["snapshot:friday", ...here.inStore], 3, 'no snapshot "friday"'],
    ["a store that is none", () => [`store:${path(".")}`], 3, "is no store"],
    ["a store of another domain", () => [...here.inStore, "--domain", "other"], 3, 'nothing of the domain "other"'],
    ["a file that is missing", () => [path("none.raw")], 3, "no such file"],
    ["two of one name", () => [path("web.raw"), `web.raw=${path("db.raw")}`], 2, "Both"],
    ["a hold of no store", () => [path("web.raw"), "-o", path("x.index"), "--hold", "3d"], 2, "--hold"],
    ["a hold of no index", () => [...here.inStore, "--hold", "3d"], 2, "--hold"],
    ["a hold that can't be read", () => [...here.inStore, "-o", path("x.index"), "--hold", "5m"], 2, "--hold"],
    ["a seed that is no file", () => ["-", "-o", path("x.index")], 2, "can't be a seed"],
    ["a seed in another format", () => [path("web.raw"), "--format", "bytes", "-o", path("x.index")], 2, "--format"],
    ["an index that exists", () => [path("web.raw"), "-o", path("base.raw")], 7, "exists already"],
    ["a folder that is missing", () => [path("web.raw"), "-o", path("none", "x.index")], 3, "no such file"],
  ])("refuses %s", async (_, args, code, words) => {
    expectError(await cli(["index", ...args()]), code, words);
    expect(existsSync(path("x.index"))).toBe(false);
  });

  test("that can't be held takes no other one's place", async () => {
    const store = path("unheld-store");
    expect((await cli(["snapshot", path("db.raw"), "--store", store, "--name", "a"])).code).toBe(0);
    const index = path("unheld.index");
    const args = ["index", `store:${store}`, "-o", index, "--force", "--hold", "1d"];
    expect((await cli(args)).code).toBe(0);
    const before = readFileSync(index);
    const { holds } = await openLayout(store, "default", false);
    rmSync(holds, { recursive: true });
    writeFileSync(holds, "");
    expectError(await cli(args), 3, "not a directory");
    expect(readFileSync(index).equals(before)).toBe(true);
    expect(readdirSync(path(".")).filter((name) => name.includes("unheld.index"))).toEqual(["unheld.index"]);
  });

  test("of a store of which a pack is gone is not made", async () => {
    const store = path("short-store");
    expect((await cli(["snapshot", path("db.raw"), "--store", store, "--name", "a"])).code).toBe(0);
    const { packs } = await openLayout(store, "default", false);
    for (const name of readdirSync(packs)) rmSync(join(packs, name));
    expectError(await cli(["index", `store:${store}`, "-o", path("short.index"), "--quiet"]), 6, "gone or cut short");
    expect(existsSync(path("short.index"))).toBe(false);
  });

  test("replaces a file behind a link, and nothing that is no file", async () => {
    symlinkSync("one.index", path("link.index"));
    writeFileSync(path("one.index"), "");
    expectError(await cli(["index", path("db.raw"), "-o", path("link.index")]), 7, "exists already");
    expect((await cli(["index", path("db.raw"), "-o", path("link.index"), "--force"])).code).toBe(0);
    expect(readlinkSync(path("link.index"))).toBe("one.index");
    expect(statSync(path("one.index")).size).toBeGreaterThan(0);
    expect(spawnSync("mkfifo", [path("fifo")]).status).toBe(0);
    for (const force of [[], ["--force"]]) {
      expectError(await cli(["index", path("db.raw"), "-o", path("fifo"), ...force]), 3, "not a regular file");
      expect(statSync(path("fifo")).isFIFO()).toBe(true);
    }
  });

  test("and others don't wait for whoever would write to a FIFO", async () => {
    expect(spawnSync("mkfifo", [path("quiet")]).status).toBe(0);
    expectError(await cli(["index", path("quiet")]), 3, "it is a pipe");
    expectError(await cli(["diff", path("web.raw"), path("quiet")]), 3, "it is a pipe");
    expectError(await cli(["inspect", path("quiet")]), 3, "it is a pipe");
    expectError(
      await cli(["receive", "--listen", "unix:x", "--output", path("."), "--seed", path("quiet")]),
      3,
      "pipe",
    );
  });

  test("refuses two stores in one index, and an index", async () => {
    const other = path("other-store");
    await cli(["snapshot", path("db.raw"), "--store", other, "--name", "a"]);
    const two = ["index", `store:${path("store")}`, `store:${other}`];
    expectError(await cli([...two, "-o", path("x.index")]), 2, "of one store");
    expect((await run(...two)).summary.shared).toEqual([
      [200, 40],
      [40, 41],
    ]);
    await cli(["index", path("db.raw"), "-o", path("one.index")]);
    expectError(await cli(["index", path("one.index"), "-o", path("x.index")]), 2, "is an index");
  });
});

describe("diff", () => {
  const expected = { zero: 20, duplicate: 10, new: 30, resent: 0, known: 50 };

  test.each<[string, () => string[], object]>([
    ["an image", () => [path("base.raw")], { samePlace: 0, elsewhere: 50 }],
    ["a snapshot", () => ["snapshot:monday", ...here.inStore], { samePlace: 0, elsewhere: 50 }],
    ["a store", () => [`store:${path("store")}`], { samePlace: null, elsewhere: 50 }],
    ["an index", () => [path("base.index")], { samePlace: null, elsewhere: 50 }],
  ])("with %s", async (_, b, more) => {
    await cli(["index", path("base.raw"), "-o", path("base.index"), "--force"]);
    const { code, summary } = await run("diff", path("web.raw"), ...b());
    expect([code, summary.pages]).toEqual([0, { ...expected, ...more }]);
  });

  test("says what would cross, and how long that takes", async () => {
    const { summary } = await run("diff", path("web.raw"), path("base.raw"), "--bandwidth", "1Mbit");
    const { bytes, wire, sample } = summary;
    const parts = ["zero", "samePlace", "elsewhere", "duplicate", "new", "literal"].map((name) => bytes[name]!);
    expect(parts.reduce((sum, part) => sum + part, 0)).toBe(bytes.plain!);
    expect(sample.contents).toMatchObject({ units: 1, bytes: 30 * PAGE, of: 30 * PAGE, error: 0 });
    expect(sample.contents!.ratio).toBeGreaterThan(0.99);
    expect(wire.digests).toBe(50 * 32);
    expect(wire.total).toBe(wire.contents! + wire.literals! + wire.digests! + wire.frames!);
    expect(summary.transfer).toEqual({ rate: 125_000, seconds: wire.total! / 125_000, error: 0 });

    await cli(["index", path("base.raw"), "-o", path("base.index"), "--force"]);
    const bundle = path("real.bundle");
    await cli(["migrate", path("web.raw"), "--to", `file:${bundle}`, "--against", path("base.index"), "--force"]);
    expect(Math.abs(wire.total! - statSync(bundle).size)).toBeLessThan(1000);
  });

  test("counts pages in their places, and prints for people", async () => {
    const { summary } = await run("diff", path("db.raw"), path("base.raw"));
    expect(summary.pages).toMatchObject({ samePlace: 40, elsewhere: 0, new: 1 });
    const { stdout } = await cli(["diff", "snapshot:monday", path("db.raw"), ...here.inStore, "--bandwidth", "10Mbit"]);
    const text = stdout.toString();
    expect(text).toMatch(/there, at the same place +163\.8 kB +40 +20\.0 %/);
    expect(text).toMatch(/new +655\.4 kB +160 +80\.0 %/);
    expect(text).toMatch(/digests of 40 contents +1\.28 kB/);
    expect(text).toContain("at 1.25 MB/s");
  });

  test.each<[string, () => string[], number, string]>([
    ["one source", () => [path("web.raw")], 2, "diff A B"],
    ["three", () => [path("web.raw"), path("web.raw"), path("db.raw")], 2, "diff A B"],
    ["a store that moves", () => [`store:${path("store")}`, path("web.raw")], 2, "can't be moved"],
    ["standard input twice", () => ["-", "-"], 2, "only one"],
    ["a rate that can't be read", () => [path("web.raw"), path("db.raw"), "--bandwidth", "100M"], 2, "--bandwidth"],
    ["a file that is missing", () => [path("web.raw"), path("none.raw")], 3, "no such file"],
  ])("refuses %s", async (_, args, code, words) => {
    expectError(await cli(["diff", ...args()]), code, words);
  });
});

describe("an index that can't be used", () => {
  test("because it is damaged is refused wherever it is named", async () => {
    const good = path("good.index");
    await cli(["index", path("base.raw"), "-o", good]);
    const bytes = readFileSync(good);
    const flipped = (at: number) => {
      const copy = Buffer.from(bytes);
      copy[at]! ^= 0x10;
      return copy;
    };
    // Two records that stand in the wrong order, under the right checksum.
    const records = bytes.subarray(-72, -32);
    const body = Buffer.concat([bytes.subarray(0, -72), records.subarray(20), records.subarray(0, 20)]);
    const forged = Buffer.concat([body, createHash("sha256").update(body).digest()]);
    const bad = { magic: flipped(3), head: flipped(30), record: flipped(bytes.length - 60), forged };
    const cases = Object.entries({ ...bad, cut: bytes.subarray(0, -10), short: bytes.subarray(0, 12) });
    for (const [name, content] of cases) {
      const file = path(`${name}.index`);
      writeFileSync(file, content);
      const results = await Promise.all([
        cli(["diff", path("web.raw"), file]),
        cli(["index", path("web.raw"), file]),
        cli(["migrate", path("web.raw"), "--to", `file:${path("never.bundle")}`, "--against", file]),
      ]);
      for (const result of results) expectError(result, name === "magic" ? 3 : 6, `${name}.index`);
    }
    expect(existsSync(path("never.bundle"))).toBe(false);
  }, 60_000);

  test("because it is of another domain is refused", async () => {
    const index = path("domain.index");
    expect((await run("index", path("base.raw"), "-o", index, "--domain", "other")).code).toBe(0);
    expectError(await cli(["diff", path("web.raw"), index]), 4, 'domain "other"');
    expectError(await cli(["index", index]), 4, 'domain "other"');
    const to = `file:${path("never.bundle")}`;
    expectError(await cli(["migrate", path("web.raw"), "--to", to, "--against", index]), 4, 'domain "other"');
    expect((await run("diff", path("web.raw"), index, "--domain", "other")).code).toBe(0);
  });
});
