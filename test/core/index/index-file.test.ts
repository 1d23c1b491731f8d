import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { IntegrityError } from "../../../core/errors.ts";
import { readIndexFile, writeIndexFile } from "../../../core/index/index-file.ts";
import { PREFIX_SIZE, type PrefixTable, PrefixTableBuilder } from "../../../core/index/prefix-table.ts";
import { INDEX_META, INDEX_TEXTS, indexTable } from "../../fixtures/index-file.ts";
import { sha256 } from "../../fixtures/pages.ts";
import { folder } from "../machines/image/files.ts";
import { example, FIXTURE, failure, forged, META, plain, RECORDS, refused } from "./index-files.ts";
import { randomWords } from "./words.ts";

let dir: ReturnType<typeof folder>;
let path: string;
beforeEach(() => {
  dir = folder();
  path = join(dir.path, "site.index");
});
afterEach(() => dir.remove());

function randomTable(count: number, seed = 1): PrefixTable {
  const digests = new Uint8Array(randomWords(8 * count, seed).buffer);
  const builder = new PrefixTableBuilder(0);
  for (let i = 0; i < count; i++) builder.add(digests, 32 * i);
  return builder.build();
}

describe("an index file", () => {
  test("says what was written, whatever that is", async () => {
    const text = (maxLength: number) => fc.string({ unit: "binary", maxLength }).filter((s) => s.length <= maxLength);
    const size = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
    const id = fc.uint8Array({ minLength: 16, maxLength: 16 });
    const seed = fc.record({ name: text(255), size, mtime: fc.double({ noNaN: true, noDefaultInfinity: true }) });
    const meta = fc.record(
      {
        site: id,
        generation: id,
        domain: text(256).filter((s) => s !== ""),
        created: size,
        software: text(256),
        seeds: fc.array(seed, { maxLength: 5 }),
        sources: fc.array(text(255), { maxLength: 5 }),
      },
      { requiredKeys: ["domain", "created", "software", "seeds", "sources"] },
    );
    await fc.assert(
      fc.asyncProperty(meta, fc.nat(50), async (meta, count) => {
        const table = randomTable(count);
        const digest = await writeIndexFile(path, meta, table, { force: true });
        const read = await readIndexFile(path);
        const bytes = readFileSync(path);
        expect(JSON.stringify(plain(read.meta))).toBe(
          JSON.stringify(
            plain(Object.fromEntries(Object.keys(read.meta).map((k) => [k, { ...meta, count }[k as "site"]]))),
          ),
        );
        expect(Object.keys(read.meta).sort()).toEqual([...Object.keys(meta), "count"].sort());
        expect([read.table.count, read.table.payloadSize]).toEqual([count, 0]);
        expect(Buffer.compare(read.table.records, table.records)).toBe(0);
        for (const one of [digest, bytes.subarray(-32), sha256(bytes.subarray(0, -32))]) {
          expect(Buffer.compare(read.digest, one)).toBe(0);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("of many pieces is read as it was written", async () => {
    const table = randomTable(300_000);
    await writeIndexFile(path, INDEX_META, table);
    expect(statSync(path).size).toBeLessThan(300_000 * PREFIX_SIZE + 400);
    const read = await readIndexFile(path);
    expect(Buffer.compare(read.table.records, table.records)).toBe(0);
    const digests = new Uint8Array(randomWords(8 * 300_000).buffer);
    for (let at = 0; at < digests.length; at += 320) if (!read.table.has(digests, at)) throw new Error(`lacks ${at}`);
    // Two neighbours at the seam of two pieces that have changed their places.
    const bytes = readFileSync(path);
    const seam = RECORDS + PREFIX_SIZE * (1 << 17);
    const record = Buffer.from(bytes.subarray(seam, seam + PREFIX_SIZE));
    bytes.copy(bytes, seam, seam - PREFIX_SIZE, seam);
    record.copy(bytes, seam - PREFIX_SIZE);
    expect((await refused(path, bytes)).message).toContain("is not in order");
  });

  test("an optional key that is undefined is left out", async () => {
    await writeIndexFile(path, { ...INDEX_META, site: undefined, generation: undefined }, indexTable());
    const { meta } = await readIndexFile(path);
    expect(Object.keys(meta)).not.toContain("site");
    expect(Object.keys(meta)).not.toContain("generation");
  });

  test("is its owner's only, and is there completely or not at all", async () => {
    await writeIndexFile(path, INDEX_META, indexTable());
    expect(statSync(path).mode & 0o7777).toBe(0o600);
    expect(readdirSync(dir.path)).toEqual(["site.index"]);
    const missing = join(dir.path, "missing", "site.index");
    const error = await failure(writeIndexFile(missing, INDEX_META, indexTable()));
    expect([error.code, error.message.includes(missing)]).toEqual(["input", true]);
  });

  test("replaces another only by force", async () => {
    writeFileSync(path, "precious");
    expect((await failure(writeIndexFile(path, INDEX_META, indexTable()))).code).toBe("exists");
    expect(readFileSync(path, "utf8")).toBe("precious");
    expect(readdirSync(dir.path)).toEqual(["site.index"]);
    await writeIndexFile(path, INDEX_META, indexTable(), { force: true });
    expect((await readIndexFile(path)).table.count).toBe(3);
    expect(readdirSync(dir.path)).toEqual(["site.index"]);
  });

  test.each([
    ["too many sources", { sources: new Array(1025).fill("a") }],
    ["a source with too long a name", { sources: ["a".repeat(256)] }],
    ["too many seeds", { seeds: new Array(1025).fill(INDEX_META.seeds[0]) }],
    ["no domain", { domain: "" }],
    ["a time that is none", { created: Number.NaN }],
    [
      "more than a mebibyte of names",
      {
        sources: new Array(1024).fill("\u20ac".repeat(255)),
        seeds: new Array(1024).fill({ name: "\u20ac".repeat(255), size: 0, mtime: 0 }),
      },
    ],
  ])("%s is not written", async (_, part) => {
    const error = await failure(writeIndexFile(path, { ...INDEX_META, ...part }, indexTable()));
    expect([error.code, error.message.includes(path)]).toEqual(["usage", true]);
    expect(readdirSync(dir.path)).toEqual([]);
  });

  test("a table with payload is not written", async () => {
    const table = new PrefixTableBuilder(8).build();
    await expect(writeIndexFile(path, INDEX_META, table)).rejects.toThrow(RangeError);
    expect(readdirSync(dir.path)).toEqual([]);
  });
});

describe("the index of version 1", () => {
  test("is read as it was meant, and written as it was", async () => {
    const { meta, table, digest } = await readIndexFile(FIXTURE);
    expect(plain(meta)).toEqual(plain(META));
    expect(table.count).toBe(3);
    for (const text of INDEX_TEXTS) expect(table.has(sha256(Buffer.from(text)), 0)).toBe(true);
    expect(table.has(sha256(Buffer.from("d")), 0)).toBe(false);
    expect(Buffer.from(digest).toString("hex")).toBe(example.toString("hex", example.length - 32));
    await writeIndexFile(path, INDEX_META, indexTable());
    expect(readFileSync(path).equals(example)).toBe(true);
  });

  test("is the example of docs/index-format.md", () => {
    const page = readFileSync(new URL("../../../docs/index-format.md", import.meta.url), "utf8");
    const [, block] = /```hex\n(.*?)```/s.exec(page)!;
    const bytes = block!.split("\n").map((line) => line.split("|")[0]!.replaceAll(" ", ""));
    expect(bytes.join("")).toBe(example.toString("hex"));
    expect(page).toContain(`${example.length} bytes: the digests`);
  });

  test("keys that a later release adds are ignored", async () => {
    writeFileSync(path, forged({ later: [1, { a: 2 }], ...META }));
    expect(plain((await readIndexFile(path)).meta)).toEqual(plain(META));
  });

  test("cut anywhere, it is damaged", async () => {
    for (let end = 0; end < example.length; end++) {
      const error = await refused(path, example.subarray(0, end));
      expect(error).toBeInstanceOf(IntegrityError);
      expect(error.message).toContain("is cut short");
    }
  });

  test("with any bit turned, it is damaged, or no index of this version", async () => {
    for (let bit = 0; bit < 8 * example.length; bit++) {
      const bytes = Buffer.from(example);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const { code } = await refused(path, bytes);
      // Magic and version.
      if (code !== (bit < 80 ? "input" : "integrity")) throw new Error(`${code} where bit ${bit} is turned`);
    }
  });

  test("with bytes behind its end, it is damaged", async () => {
    const error = await refused(path, Buffer.concat([example, Buffer.of(0)]));
    expect([error.code, error.message.includes("1 bytes too many")]).toEqual(["integrity", true]);
  });
});
