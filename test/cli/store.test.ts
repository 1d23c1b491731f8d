// What is kept in a store: listed, checked, forgotten and removed by the command.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { ContentSet } from "../../core/site/content-set.ts";
import { snapshotPath } from "../../core/site/manifest.ts";
import { createHold } from "../../core/store/holds.ts";
import { type Layout, openLayout } from "../../core/store/layout.ts";
import { packPath } from "../../core/store/pack.ts";
import { Store } from "../../core/store/store.ts";
import { cli } from "../support/cli.ts";
import { type Workspace, workspace } from "./files.ts";

let here: Workspace;
let layout: Layout;

/** Runs with the store of the workspace. */
const run = (command: string, ...args: string[]) => cli([command, "--store", here.path("store"), ...args]);
const keep = (name: string, machines: string[], ...more: string[]) =>
  run("snapshot", ...machines.map((machine) => here.path(machine)), "--name", name, "--quiet", ...more);

const pristine = () => here.path("pristine");
beforeAll(async () => {
  here = workspace();
  await keep("one", ["disk.raw"]);
  await keep("both", ["disk.raw", "twin.raw"]);
  cpSync(here.path("store"), pristine(), { recursive: true });
});
beforeEach(async () => {
  rmSync(here.path("store"), { recursive: true });
  cpSync(pristine(), here.path("store"), { recursive: true });
  layout = await openLayout(here.path("store"), "default", false);
});
afterAll(() => here[Symbol.dispose]());

/** Flips a bit of a file. */
function damage(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

async function hold(name: string, expires: number): Promise<void> {
  const set = new ContentSet();
  set.add(Buffer.alloc(32, 1), 0);
  await createHold(layout, { name, created: Date.UTC(2026, 0, 2), expires, table: set.table() });
}

const packs = () => readdirSync(layout.packs);

describe("list", () => {
  test("says what every domain has", async () => {
    await keep("theirs", ["twin.raw"], "--domain", "tenant b");
    await hold("index-1", Date.UTC(2100, 0, 1));
    const { code, stdout, stderr } = await run("list");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const text = stdout.toString();
    expect(text).toMatch(/domain "default": contents: 80, packs: 1, [\d.]+ kB\n/);
    expect(text).toMatch(/snapshot\s+one\s+20\d\d-\d\d-\d\d \d\d:\d\d UTC\s+disk\.raw\s+729\.2 kB\n/);
    expect(text).toMatch(/snapshot\s+both\s+\S+ \S+ UTC\s+disk\.raw, twin\.raw\s+1\.06 MB\n/);
    expect(text).toMatch(/hold\s+index-1\s+2026-01-02 00:00 UTC\s+until 2100-01-01 00:00 UTC\s+1 contents\n/);
    expect(text).toMatch(/domain "tenant b": contents: 80/);
    const only = (await run("list", "--domain", "tenant b")).stdout.toString();
    expect([only.includes("theirs"), only.includes("one")]).toEqual([true, false]);
  });

  test("as JSON", async () => {
    await hold("index-1", Date.UTC(2100, 0, 1));
    const { code, events } = await run("list", "--json");
    expect(code).toBe(0);
    const [domain, both, one, held, summary] = events();
    const bytes = statSync(packPath(layout.packs, 1)).size;
    expect(domain).toEqual({ type: "domain", domain: "default", contents: 80, packs: 1, bytes });
    const plain = ["disk.raw", "twin.raw"].map((name) => statSync(here.path(name)).size);
    expect(both).toMatchObject({
      ...{ type: "snapshot", domain: "default", name: "both", contents: 80 },
      bytes: { plain: plain[0]! + plain[1]!, manifest: statSync(snapshotPath(layout, "both")).size },
      streams: [
        { name: "disk.raw", format: "raw", plain: plain[0] },
        { name: "twin.raw", format: "raw", plain: plain[1] },
      ],
    });
    expect(Math.abs(Date.now() - (both!.created as number))).toBeLessThan(600_000);
    expect(one).toMatchObject({ name: "one", contents: 64 });
    const [created, expires] = [Date.UTC(2026, 0, 2), Date.UTC(2100, 0, 1)];
    expect(held).toEqual({ type: "hold", domain: "default", name: "index-1", created, expires, contents: 1 });
    expect(summary).toMatchObject({ type: "summary", ok: true, domains: ["default"] });
    expect(events()).toHaveLength(5);
  });

  test("tells what is damaged, and lists the rest", async () => {
    damage(snapshotPath(layout, "one"), 200);
    const { code, stdout, stderr } = await run("list");
    expect(code).toBe(6);
    expect(stderr).toContain("one.snapshot");
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stdout.toString()).toContain("disk.raw, twin.raw");
    const events = (await run("list", "--json")).events();
    expect(events.map(({ type }) => type)).toEqual(["domain", "snapshot", "error", "summary"]);
    expect(events.at(-1)).toMatchObject({ ok: false, code: "integrity" });
  });
});

describe("verify", () => {
  test.each([
    ["by checksums", []],
    ["by digests", ["--read-data"]],
  ] as const)("finds nothing wrong %s: exit code 0", async (_, more) => {
    const { code, stdout, stderr } = await run("verify", ...more);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.toString()).toMatch(/snapshot\s+one\s+whole\s+64\s+0\s+0\n/);
    const { events } = await run("verify", "--json", ...more);
    expect(events()).toMatchObject([
      { type: "checked", kind: "snapshot", name: "both", contents: 80, lacking: 0, damaged: 0, ok: true },
      { type: "checked", name: "one", contents: 64, ok: true },
      { type: "summary", ok: true, packs: 1, contents: 80, damaged: 0, runs: 0, misplaced: 0, checked: 2, harmed: 0 },
    ]);
  });

  test("says which snapshots are harmed: exit code 6", async () => {
    const path = packPath(layout.packs, 1);
    // The last byte is of what only "both" has.
    damage(path, statSync(path).size - 1);
    const { code, stdout, stderr } = await run("verify");
    expect(code).toBe(6);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stderr).toContain('harms snapshot "both"');
    expect(stderr).not.toContain('"one"');
    expect(stderr).toContain("shrinker prune");
    expect(stdout.toString()).toMatch(/00001\.pack", byte \d+: .*checksum \(contents: 16\)/);
    expect(stdout.toString()).toMatch(/snapshot\s+both\s+harmed\s+80\s+0\s+16\n/);
    const { events } = await run("verify", "--json");
    expect(events().map(({ type }) => type)).toEqual(["damaged", "checked", "checked", "error", "summary"]);
    expect(events()[0]).toMatchObject({ path, contents: 16 });
    expect(events().at(-1)).toMatchObject({ ok: false, code: "integrity", damaged: 1, harmed: 1 });
  });

  test("of an index that is damaged says that it can be made again, which prune does", async () => {
    for (const name of readdirSync(layout.index)) damage(`${layout.index}/${name}`, 40);
    const { code, stderr } = await run("verify");
    expect([code, stderr.includes("the index has to be made again")]).toEqual([6, true]);
    expect((await run("prune")).code).toBe(0);
    expect((await run("verify")).code).toBe(0);
  });

  test("of a manifest alone tells what is wrong with it", async () => {
    writeFileSync(snapshotPath(layout, "one"), "");
    const { code, stderr, events } = await run("verify", "--json");
    expect([code, stderr.includes("one.snapshot")]).toEqual([6, true]);
    expect(events()[1]).toMatchObject({ type: "checked", name: "one", ok: false, code: "integrity" });
  });
});

describe("prune", () => {
  test("forgets, removes and says so", async () => {
    const { size } = statSync(packPath(layout.packs, 1));
    const dry = await run("prune", "--forget", "both", "--repack", "--dry-run", "--json");
    expect(dry.code).toBe(0);
    const said = { ok: true, forgotten: ["both"], released: [], contents: 16, harmed: [], unreadable: [] };
    expect(dry.events()).toMatchObject([{ type: "summary", dryRun: true, ...said }]);
    expect([packs(), (await run("verify")).code]).toEqual([["00001.pack"], 0]);

    const { code, stdout, stderr } = await run("prune", "--forget", "both", "--repack");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.toString()).toMatch(
      /^forgotten: "both"\ncontents removed: 16, [\d.]+ kB freed\npacks: 0 removed, 1 written anew, 0 stay\n$/,
    );
    expect(packs()).toEqual(["00002.pack"]);
    expect(statSync(packPath(layout.packs, 2)).size).toBeLessThan(size);
    expect((await run("verify", "--read-data")).code).toBe(0);
    const output = here.path("restored");
    expect((await run("restore", "one", "--output", output)).code).toBe(0);
    expect(here.arrived(output, ["disk.raw"])).toBe(true);
    expect((await run("restore", "both", "--output", output)).code).toBe(3);

    const all = await run("prune", "--forget", "one", "--json");
    expect(all.events()).toMatchObject([{ ok: true, contents: 64, packs: { removed: 1, rewritten: 0, kept: 0 } }]);
    expect(packs()).toEqual([]);
  });

  test("keeps what was received for 30 days unless it is told otherwise", async () => {
    const store = here.path("received");
    const bundle = `file:${here.path("a.bundle")}`;
    expect((await cli(["migrate", here.path("twin.raw"), "--to", bundle])).code).toBe(0);
    expect((await cli(["receive", bundle, "--output", here.path("out"), "--store", store])).code).toBe(0);
    const pruned = async (...more: string[]) =>
      (await cli(["prune", "--store", store, "--json", ...more])).events()[0]!.contents;
    expect(await pruned()).toBe(0);
    expect(await pruned("--keep-received", "12h")).toBe(0);
    expect(await pruned("--keep-received", "0")).toBe(80);
  });

  test("ends holds that have expired, and those that it is told to", async () => {
    await hold("old", Date.UTC(2026, 0, 3));
    await hold("new", Date.UTC(2100, 0, 1));
    const first = (await run("prune", "--json")).events();
    expect(first).toMatchObject([{ ok: true, released: ["old"], harmed: [{ kind: "hold", name: "new", lacking: 1 }] }]);
    expect((await run("prune", "--release", "new")).stdout.toString()).toContain('holds that ended: "new"');
    expect(readdirSync(layout.holds)).toEqual([]);
  });

  test("lists snapshots that lack contents, and keeps them", async () => {
    const path = packPath(layout.packs, 1);
    damage(path, statSync(path).size - 1);
    const { code, stdout } = await run("prune");
    expect([code, stdout.toString().includes('snapshot "both" lacks 16 contents')]).toEqual([0, true]);
    const output = here.path("restored");
    expect((await run("restore", "both", "--output", output)).code).not.toBe(0);
    await keep("again", ["twin.raw"]);
    rmSync(output, { recursive: true });
    expect((await run("restore", "both", "--output", output)).code).toBe(0);
    expect((await run("verify", "--read-data")).code).toBe(0);
  });

  test("is refused while another shrinker uses the store: exit code 4", async () => {
    const reader = await Store.open(here.path("store"), { domain: "default" });
    const { code, stderr, events } = await run("prune", "--forget", "one", "--json");
    await reader.close();
    expect(code).toBe(4);
    expect(stderr).toContain("reads the store");
    expect(events().at(-1)).toMatchObject({ type: "summary", ok: false, code: "refused" });
    expect((await run("list")).stdout.toString()).toContain("one");
  });
});

describe("wrong words", () => {
  test.each([
    [2, "Give --store DIR", ["list"]],
    [2, "Give --store DIR", ["verify"]],
    [2, "Give --store DIR", ["prune"]],
    [2, "--forget one", ["prune", "one"]],
    [2, "checks all of a store", ["verify", "one"]],
    [2, "says what a store holds", ["list", "one"]],
    [2, "--keep-received: Cannot parse", ["prune", "--keep-received", "5m"]],
    [3, "is no store", ["verify"]],
    [3, "is no store", ["list"]],
    [3, "nothing of the domain", ["prune", "--domain", "other"]],
    [3, 'no snapshot "three"', ["prune", "--forget", "one", "--forget", "three"]],
    [3, 'no hold "three"', ["prune", "--release", "three"]],
  ] as const)("exit code %d: %s", async (code, message, [command, ...args]) => {
    const store = message.includes("--store")
      ? []
      : ["--store", message.includes("no store") ? here.folder : here.path("store")];
    const result = await cli([command, ...args, ...store]);
    expect(result.stderr).toContain(message);
    expect(result.stderr.trimEnd().split("\n")).toHaveLength(1);
    expect({ code: result.code, stdout: result.stdout.toString() }).toEqual({ code, stdout: "" });
    expect((await run("verify")).code).toBe(0);
  });
});
