import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pack } from "msgpackr";
import { readIndexFile } from "../../../core/index/index-file.ts";
import { PREFIX_SIZE } from "../../../core/index/prefix-table.ts";
import { INDEX_META } from "../../fixtures/index-file.ts";
import { sha256 } from "../../fixtures/pages.ts";
import { folder } from "../machines/image/files.ts";
import { example, failure, forged, META, RECORDS, refused } from "./index-files.ts";

let dir: ReturnType<typeof folder>;
let path: string;
beforeEach(() => {
  dir = folder();
  path = join(dir.path, "site.index");
});
afterEach(() => dir.remove());

describe("what is no index", () => {
  test.each([
    ["a text", Buffer.from("#!/bin/sh\necho hello, this is a script\n")],
    ["a bundle", readFileSync(new URL("../../fixtures/wire-v1/example.bin", import.meta.url))],
    ["a short text", Buffer.from("x")],
    ["zeros", Buffer.alloc(1000)],
  ])("%s is refused as input", async (_, bytes) => {
    const error = await refused(path, bytes);
    expect([error.code, error.message.includes("is no index")]).toEqual(["input", true]);
  });

  test("a later version is refused as input", async () => {
    const later = Buffer.from(example);
    later.writeUInt16LE(2, 8);
    const error = await refused(path, later);
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
    const error = await refused(path, bytes);
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
        const error = await refused(path, forged({ ...META, [key]: value }));
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
    const error = await refused(path, forged(map));
    expect([error.code, error.message.includes("can't be understood")]).toEqual(["integrity", true]);
  });

  test("whose map has another checksum is refused before the map is decoded", async () => {
    const body = Buffer.from(example.subarray(0, -32));
    body[RECORDS - 1]! ^= 1;
    const error = await refused(path, Buffer.concat([body, sha256(body)]));
    expect([error.code, error.message.includes("has a wrong checksum")]).toEqual(["integrity", true]);
  });

  test("whose count is not that of its records is refused before anything is allocated", async () => {
    for (const count of [0, 2, 4, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      const { code, message } = await refused(path, forged({ ...META, count }));
      expect([code, message.includes(count < 3 ? "bytes too many" : "is cut short")]).toEqual(["integrity", true]);
    }
    expect((await refused(path, forged(META, records.subarray(0, 59)))).message).toContain("is cut short");
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
      const error = await refused(path, forged(META, Buffer.concat(order as Buffer[])));
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
