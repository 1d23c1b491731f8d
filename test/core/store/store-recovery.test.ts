import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openLayout } from "../../../core/store/layout.ts";
import { packPath } from "../../../core/store/pack.ts";
import { Store } from "../../../core/store/store.ts";
import { DOMAIN, flipped, range, type TempFolder, tempFolder } from "./contents.ts";
import { packBytes, scan, writePack } from "./packs.ts";
import { held, heldBy, put, putAll } from "./use.ts";

let folder: TempFolder;
let dir: string;
let told: string[];
beforeEach(() => {
  folder = tempFolder();
  dir = join(folder.path, "store");
  told = [];
});
afterEach(() => folder[Symbol.dispose]());

const warn = (message: string) => void told.push(message);
const openWriter = (domain = DOMAIN) => Store.open(dir, { domain, write: true, warn });
const openReader = (domain = DOMAIN) => Store.open(dir, { domain, warn });
const part = (...names: string[]) => join(dir, "domains", DOMAIN, ...names);

const keep = (...groups: readonly (readonly number[])[]) => putAll(openWriter(), groups);

describe("a store that a crash has left", () => {
  test("has what was written, and cuts off what was not written whole", async () => {
    await keep([0, 1]);
    const { packs } = await openLayout(dir, DOMAIN, false);
    const whole = packBytes(packs, 1).length;
    await writePack(packs, 9, [[2, 4], [6]]);
    appendFileSync(packPath(packs, 1), packBytes(packs, 9).subarray(16));
    const indexed = packBytes(packs, 1).length;
    appendFileSync(packPath(packs, 1), packBytes(packs, 9).subarray(16, 90));
    rmSync(packPath(packs, 9));
    // A reader changes nothing.
    expect(await heldBy(openReader(), range(0, 9))).toEqual([0, 1, 2, 4, 6]);
    expect(packBytes(packs, 1).length).toBe(indexed + 74);
    const writer = await openWriter();
    await put(writer, [8]);
    expect(await held(writer, range(0, 9))).toEqual([0, 1, 2, 4, 6, 8]);
    await writer.close();
    expect((await scan(packPath(packs, 1), whole)).end).toBe(packBytes(packs, 1).length);
    expect(await heldBy(openReader(), range(0, 9))).toEqual([0, 1, 2, 4, 6, 8]);
    expect(told).toEqual([]);
  });

  test("is rid of what was not finished once it is written to again", async () => {
    await keep([0]);
    const left = [
      part("index", "2-2.run.0123456789ab.new"),
      part("snapshots", ".monday.0123456789abcdef.shrinker-partial"),
      part("snapshots", ".shrinker-0123456789abcdef.partial"),
    ];
    const others = [part("snapshots", "my.partial"), part("holds", ".a.hold.0123456789abcdef.shrinker-partial")];
    for (const path of [...left, ...others]) writeFileSync(path, "");
    await heldBy(openReader(), [0]);
    expect(left.every((path) => existsSync(path))).toBe(true);
    await keep([2]);
    expect(left.some((path) => existsSync(path))).toBe(false);
    // A hold may be about to be made: that needs no lock that keeps others out.
    expect(others.every((path) => existsSync(path))).toBe(true);
  });

  test("goes on in another pack where the last one never began", async () => {
    await keep([0]);
    writeFileSync(packPath(part("packs"), 2), "");
    await keep([2]);
    expect(readdirSync(part("packs")).sort()).toEqual(["00001.pack", "00002.pack", "00003.pack"]);
    expect(await heldBy(openReader(), [0, 2])).toEqual([0, 2]);
  });

  test("gives nothing of a group that is damaged, and all others", async () => {
    await keep([0, 2], [4], [6]);
    const path = packPath(part("packs"), 1);
    const { groups } = await scan(path);
    writeFileSync(path, flipped(readFileSync(path), groups[2]!.offset - 1));
    expect(await heldBy(openReader(), [0, 2, 4, 6])).toEqual([0, 2, 6]);
    rmSync(path);
    expect(await heldBy(openReader(), [0, 2, 4, 6])).toEqual([]);
  });

  test("goes on elsewhere where a pack is cut short", async () => {
    await keep([0], [1]);
    const path = packPath(part("packs"), 1);
    truncateSync(path, statSync(path).size - 10);
    await keep([2]);
    expect(told.join()).toContain("cut short");
    expect(await heldBy(openReader(), [0, 1, 2])).toEqual([0, 2]);
    for (const name of readdirSync(part("index"))) rmSync(part("index", name));
    expect(await heldBy(openReader(), [0, 1, 2])).toEqual([0, 2]);
  });
});

describe("contents that the index has and no pack are stored again", () => {
  const sizes = () => readdirSync(part("packs")).map((name) => [name, statSync(part("packs", name)).size]);

  test.each([
    ["cut short", (path: string) => truncateSync(path, statSync(path).size - 10), [0]],
    ["gone", (path: string) => rmSync(path), []],
  ] as const)("a pack that is %s", async (how, spoil, left) => {
    await keep([0], [1, 2]);
    spoil(packPath(part("packs"), 1));
    expect(await heldBy(openReader(), range(0, 3))).toEqual([...left]);
    expect(told.join()).toContain(how);
    expect(told.join()).toContain("shrinker verify");
    await keep(range(0, 3));
    expect(await heldBy(openReader(), range(0, 3))).toEqual(range(0, 3));
    // The index would take another first pack for the one that it knows.
    expect(sizes().map(([name]) => name)).toEqual(how === "gone" ? ["00002.pack"] : ["00001.pack", "00002.pack"]);
    const before = sizes();
    await keep(range(0, 3));
    expect(sizes()).toEqual(before);
  });
});

describe("an index that is not as it was left is made again", () => {
  const spoiled = ["damaged", "empty", "missing", "of nothing"] as const;
  test.each(spoiled.map((how) => [how]))("%s", async (how) => {
    await keep(range(0, 12), [30], [31, 32]);
    for (const name of readdirSync(part("index"))) {
      const path = part("index", name);
      if (how === "damaged") writeFileSync(path, flipped(readFileSync(path), 60));
      else if (how === "empty") writeFileSync(path, "");
      else if (how === "missing") rmSync(path);
      else writeFileSync(part("index", "1-7.run"), readFileSync(path).subarray(0, 28));
    }
    const all = [...range(0, 12), 30, 31, 32];
    const names = readdirSync(part("index"));
    expect(await heldBy(openReader(), all)).toEqual(all);
    expect(told.length).toBe(how === "missing" ? 0 : 1);
    expect(readdirSync(part("index"))).toEqual(names);
    await keep([40]);
    // From then on it is whole.
    told = [];
    expect(await heldBy(openReader(), [...all, 40])).toEqual([...all, 40]);
    expect(told).toEqual([]);
  });

  // The first writer has nothing to add, and leaves an index of what it could read.
  const lose = {
    "is damaged": (path: string) => writeFileSync(path, ""),
    "is gone": (path: string) => rmSync(path),
  };
  const behind = Object.keys(lose).flatMap((how) => [[how, [[0], [10]]] as const, [how, [[10]]] as const]);
  test.each(behind)(
    "and what lies behind damage is not cut off where it %s: it may be no torn write",
    async (how, then) => {
      await keep([0, 2], [4, 6], [8]);
      const path = packPath(part("packs"), 1);
      const { groups } = await scan(path);
      const whole = readFileSync(path);
      const damaged = flipped(whole, groups[1]!.offset);
      writeFileSync(path, damaged);
      for (const name of readdirSync(part("index"))) lose[how as keyof typeof lose](part("index", name));
      expect(await heldBy(openReader(), [0, 2, 4, 6, 8])).toEqual([0, 2]);
      for (const numbers of then) await keep(numbers);
      expect(Buffer.compare(readFileSync(path), damaged)).toBe(0);
      expect(await heldBy(openReader(), [0, 2, 8, 10])).toEqual([0, 2, 10]);
    },
  );
});
