import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { openLayout } from "../../../core/store/layout.ts";
import { packPath } from "../../../core/store/pack.ts";
import { Store } from "../../../core/store/store.ts";
import { contents, DIGEST, DOMAIN, failure, PAGE, range, type TempFolder, tempFolder } from "./contents.ts";
import { scan, writePack } from "./packs.ts";
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

describe("a store", () => {
  test("keeps each content once, whoever brings it", async () => {
    const store = await openWriter();
    await Promise.all([put(store, range(0, 40)), put(store, range(20, 40)), put(store, range(10, 30))]);
    await put(store, [5, 5, 5, 100, 100]);
    await store.flush();
    expect(store.added.contents).toBe(61);
    expect(store.count).toBe(61);
    await store.close();
    await keep(range(0, 60), [100]);
    const { digests, size } = await scan(packPath(part("packs"), 1));
    expect(digests.length / DIGEST).toBe(61);
    const again = await openWriter();
    expect([again.added, again.count]).toEqual([{ contents: 0, bytes: 0 }, 61]);
    await again.close();
    expect(statSync(packPath(part("packs"), 1)).size).toBe(size);
  });

  test("fetches what it has, wherever it is asked for, and leaves the rest", async () => {
    await keep([0, 1, 2], [3, 4]);
    const store = await openWriter();
    await put(store, [6, 7]);
    const numbers = [7, 50, 3, 3, 51, 0, 6, 2];
    const { digests, pages: right, count } = contents(numbers);
    const found = new Uint8Array(count);
    const pages = new Uint8Array(count * PAGE).fill(0xaa);
    // Somebody before it had this one.
    found[5] = 1;
    await store.fetch(digests, count, found, pages);
    expect([...found]).toEqual([1, 0, 1, 1, 0, 1, 1, 1]);
    for (const [i, number] of numbers.entries()) {
      const page = pages.subarray(i * PAGE, (i + 1) * PAGE);
      if (number >= 50 || i === 5) expect(page.every((byte) => byte === 0xaa)).toBe(true);
      else expect(Buffer.compare(page, right.subarray(i * PAGE, (i + 1) * PAGE))).toBe(0);
    }
    await store.close();
  });

  test("gives a content whose group is still being filled, or is on its way", async () => {
    const store = await openWriter();
    for (let first = 0; first < 1400; first += 200) {
      await put(store, range(first, 200));
      const newest = range(first + 190, 10);
      expect(await held(store, [...newest, first, 0])).toEqual([...newest, first, 0]);
    }
    await store.close();
  });

  test("gives contents to a reader while it is written to", async () => {
    await keep([0, 1]);
    const writer = await openWriter();
    await put(writer, [2, 3]);
    await writer.flush();
    await put(writer, [4]);
    expect(await heldBy(openReader(), [0, 1, 2, 3])).toEqual([0, 1, 2, 3]);
    await writer.close();
    expect(told).toEqual([]);
  });

  test("has a site that stays, and a generation that only a removal changes", async () => {
    await keep([0]);
    const first = await openReader();
    await first.close();
    await keep([1]);
    const again = await openReader();
    await again.close();
    expect(again.identity).toEqual(first.identity);
    expect([first.identity.site.length, first.identity.generation.length]).toEqual([16, 16]);
  });

  test("keeps its domains apart", async () => {
    await keep([0]);
    const other = await openWriter("other");
    expect(await held(other, [0])).toEqual([]);
    await put(other, [0, 2]);
    await other.close();
    expect(await heldBy(openReader(), [0, 2])).toEqual([0]);
    expect((await failure(openReader("third"))).message).toContain('nothing of the domain "third"');
  });

  test("is added to by one process at a time, and read by any number", async () => {
    const writer = await openWriter();
    const error = await failure(openWriter());
    expect([error.code, error.message]).toEqual(["refused", expect.stringContaining(dir)]);
    const readers = await Promise.all([openReader(), openReader()]);
    await writer.close();
    await (await openWriter()).close();
    for (const reader of readers) await reader.close();
    expect((await failure(put(readers[0]!, [0]))).message).toContain("opened to be read");
  });

  test("makes nothing where it is only read", async () => {
    expect((await failure(openReader())).code).toBe("input");
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("makes what was put last by itself, once it is much", async () => {
    const store = await openWriter();
    const count = 4096;
    const pages = new Uint8Array(count * PAGE);
    for (let done = 0; done < 65_536; done += count) {
      expect(readdirSync(part("index"))).toEqual([]);
      await store.put(randomFillSync(new Uint8Array(count * DIGEST)), pages, count);
    }
    expect(readdirSync(part("index"))).toEqual(["1-1.run"]);
    await store.close();
  }, 30_000);

  test("fetches any number of contents with few descriptors", async () => {
    const { packs } = await openLayout(dir, DOMAIN, true);
    // A group each: as many reads as contents.
    await writePack(
      packs,
      1,
      range(0, 256).map((number) => [number]),
    );
    const program = fileURLToPath(new URL("fetch-all.ts", import.meta.url));
    const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
    const limited = ["-c", `ulimit -n 64; exec "$0" "$@"`, process.execPath, ...flags, program, dir, "256"];
    const { stdout } = await promisify(execFile)("/bin/sh", limited);
    expect(JSON.parse(stdout)).toEqual({ found: 256, same: true });
  });
});
