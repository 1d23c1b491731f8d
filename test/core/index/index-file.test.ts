import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { pack } from "msgpackr";
import { IntegrityError, ShrinkerError } from "../../../core/errors.ts";
import { readIndexFile, writeIndexFile } from "../../../core/index/index-file.ts";
import { PREFIX_SIZE, type PrefixTable, PrefixTableBuilder } from "../../../core/index/prefix-table.ts";
import { INDEX_META, INDEX_TEXTS, indexTable } from "../../fixtures/index-file.ts";
import { sha256 } from "../../fixtures/pages.ts";
import { folder } from "../machines/image/files.ts";
import { randomWords } from "./words.ts";

const FIXTURE = fileURLToPath(new URL("../../fixtures/index-v1/example.index", import.meta.url));
const example = readFileSync(FIXTURE);
const HEADER = 16;
/** Where the example's records begin. */
const RECORDS = HEADER + example.readUInt32LE(12) + 4;

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

/** Bytes as arrays of numbers, so that values compare alike whichever kind of array holds them. */
function plain(meta: object): unknown {
  return Object.fromEntries(
    Object.entries(meta).map(([key, value]) => [key, value instanceof Uint8Array ? Array.from(value) : value]),
  );
}

async function failure(work: Promise<unknown>): Promise<ShrinkerError> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  return error;
}

/** What reading these bytes fails with: a message that names the file and says what to do, on one line. */
async function refused(bytes: Uint8Array): Promise<ShrinkerError> {
  writeFileSync(path, bytes);
  const error = await failure(readIndexFile(path));
  expect(error.message).toContain(`"${path}"`);
  expect(error.message).toMatch(/; (copy it again, or make it again with|name one that) "shrinker index/);
  expect(error.message).not.toContain("\n");
  return error;
}

/** A file as a forger makes it: any map and records, and every checksum right. */
function forged(map: unknown, records: Uint8Array = example.subarray(RECORDS, -32)): Buffer {
  const encoded = map instanceof Uint8Array ? map : pack(map);
  const head = Buffer.alloc(HEADER + encoded.length + 4);
  example.copy(head, 0, 0, HEADER);
  head.writeUInt32LE(encoded.length, 12);
  head.set(encoded, HEADER);
  head.writeUInt32LE(crc32(head.subarray(0, -4)), head.length - 4);
  const body = Buffer.concat([head, records]);
  return Buffer.concat([body, createHash("sha256").update(body).digest()]);
}

const META = { ...INDEX_META, count: INDEX_TEXTS.length };

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
    expect((await refused(bytes)).message).toContain("is not in order");
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
      const error = await refused(example.subarray(0, end));
      expect(error).toBeInstanceOf(IntegrityError);
      expect(error.message).toContain("is cut short");
    }
  });

  test("with any bit turned, it is damaged, or no index of this version", async () => {
    for (let bit = 0; bit < 8 * example.length; bit++) {
      const bytes = Buffer.from(example);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const { code } = await refused(bytes);
      // Magic and version.
      if (code !== (bit < 80 ? "input" : "integrity")) throw new Error(`${code} where bit ${bit} is turned`);
    }
  });

  test("with bytes behind its end, it is damaged", async () => {
    const error = await refused(Buffer.concat([example, Buffer.of(0)]));
    expect([error.code, error.message.includes("1 bytes too many")]).toEqual(["integrity", true]);
  });
});

describe("what is no index", () => {
  test.each([
    ["a text", Buffer.from("#!/bin/sh\necho hello, this is a script\n")],
    ["a bundle", readFileSync(new URL("../../fixtures/wire-v1/example.bin", import.meta.url))],
    ["a short text", Buffer.from("x")],
    ["zeros", Buffer.alloc(1000)],
  ])("%s is refused as input", async (_, bytes) => {
    const error = await refused(bytes);
    expect([error.code, error.message.includes("is no index")]).toEqual(["input", true]);
  });

  test("a later version is refused as input", async () => {
    const later = Buffer.from(example);
    later.writeUInt16LE(2, 8);
    const error = await refused(later);
    expect([error.code, error.message.includes("version 2, not 1")]).toEqual(["input", true]);
  });

  test("a missing file, a folder, a device and a dangling link are refused as input", async () => {
    symlinkSync(join(dir.path, "nowhere"), join(dir.path, "link"));
    for (const path of [join(dir.path, "missing"), dir.path, "/dev/null", join(dir.path, "link")]) {
      const error = await failure(readIndexFile(path));
      expect([error.code, error.message.includes(path)]).toEqual(["input", true]);
    }
  });

  test("a FIFO is refused, without waiting for who writes to it", async () => {
    expect(spawnSync("mkfifo", [path]).status).toBe(0);
    expect((await failure(readIndexFile(path))).message).toContain("is not a regular file");
  });
});

describe("a forged index", () => {
  const records = example.subarray(RECORDS, -32);

  test("can be a right one", async () => {
    writeFileSync(path, forged(META));
    expect((await readIndexFile(path)).table.count).toBe(3);
  });

  test.each([
    ["a length of the map that is beyond all bounds", (bytes: Buffer) => bytes.writeUInt32LE(0xffff_ffff, 12)],
    ["a map of a byte more than a mebibyte", (bytes: Buffer) => bytes.writeUInt32LE(2 ** 20 + 1, 12)],
  ])("with %s is refused before it is read", async (_, change) => {
    const bytes = Buffer.from(example);
    change(bytes);
    const error = await refused(bytes);
    expect([error.code, error.message.includes("has a head of")]).toEqual(["integrity", true]);
  });

  const bad: Record<string, unknown[]> = {
    site: [new Uint8Array(15), new Uint8Array(17), "0123456789abcdef", null],
    generation: [new Uint8Array(0), 1],
    domain: ["", "a".repeat(257), 1, undefined],
    created: [-1, 0.5, Infinity, "now", undefined],
    software: ["a".repeat(257), null, undefined],
    count: [-3, 3.5, "3", 2 ** 53, undefined],
    seeds: [
      {},
      new Array(1025).fill(INDEX_META.seeds[0]),
      [1],
      ["name", "a".repeat(256)],
      ["size", -1],
      ["size", 1.5],
      ["mtime", Number.NaN],
      ["mtime", Infinity],
    ].map((one) =>
      Array.isArray(one) && typeof one[0] === "string" ? [{ ...INDEX_META.seeds[0], [one[0]]: one[1] }] : one,
    ),
    sources: ["a", [1], ["a".repeat(256)], new Array(1025).fill("a"), undefined],
  };
  test.each(Object.entries(bad).map(([key, values]) => ({ key, values })))(
    "with a bad $key is refused by that name",
    async ({ key, values }) => {
      for (const value of values) {
        const error = await refused(forged({ ...META, [key]: value }));
        expect([error.code, error.message.includes(`bad ${key}`)]).toEqual(["integrity", true]);
      }
    },
  );

  test.each([
    ["no map", Buffer.alloc(0)],
    ["a list", pack([1, 2])],
    ["a map that is cut", pack(META).subarray(0, -1)],
    ["a map within a million of others", Buffer.alloc(2 ** 20, Buffer.from("81a161", "hex"))],
    ["a million lists", Buffer.concat([Buffer.from("81a0", "hex"), Buffer.alloc(2 ** 20 - 2, 0x91)])],
  ])("with %s is refused", async (_, map) => {
    const error = await refused(forged(map));
    expect([error.code, error.message.includes("can't be understood")]).toEqual(["integrity", true]);
  });

  test("whose map has another checksum is refused before the map is decoded", async () => {
    const body = Buffer.from(example.subarray(0, -32));
    body[RECORDS - 1]! ^= 1;
    const error = await refused(Buffer.concat([body, sha256(body)]));
    expect([error.code, error.message.includes("has a wrong checksum")]).toEqual(["integrity", true]);
  });

  test("whose count is not that of its records is refused before anything is allocated", async () => {
    for (const count of [0, 2, 4, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      const { code, message } = await refused(forged({ ...META, count }));
      expect([code, message.includes(count < 3 ? "bytes too many" : "is cut short")]).toEqual(["integrity", true]);
    }
    expect((await refused(forged(META, records.subarray(0, 59)))).message).toContain("is cut short");
  });

  test("whose records don't ascend is refused", async () => {
    const [a, b, c] = [0, 1, 2].map((i) => records.subarray(i * PREFIX_SIZE, (i + 1) * PREFIX_SIZE));
    for (const order of [
      [a, c, b],
      [b, a, c],
      [c, b, a],
      [a, a, b],
      [a, b, b],
    ]) {
      const error = await refused(forged(META, Buffer.concat(order as Buffer[])));
      expect([error.code, error.message.includes("is not in order")]).toEqual(["integrity", true]);
    }
  });

  test("that is nearly all holes is refused at the first of them", async () => {
    const hole = forged({ ...META, count: 2 ** 27 }, new Uint8Array(0)).subarray(0, -32);
    writeFileSync(path, hole);
    truncateSync(path, hole.length + 2 ** 27 * PREFIX_SIZE + 32);
    const before = process.memoryUsage().rss;
    const error = await failure(readIndexFile(path));
    expect([error.code, error.message.includes("is not in order")]).toEqual(["integrity", true]);
    expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 28);
  });

  test("of more than memory holds is refused as input", async () => {
    const hole = forged({ ...META, count: 2 ** 37 }, new Uint8Array(0)).subarray(0, -32);
    writeFileSync(path, hole);
    truncateSync(path, hole.length + 2 ** 37 * PREFIX_SIZE + 32);
    const error = await failure(readIndexFile(path));
    expect([error.code, error.message.includes("memory")]).toEqual(["input", true]);
  });
});
