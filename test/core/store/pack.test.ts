import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { truncateSync, writeFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { IntegrityError } from "../../../core/errors.ts";
import { GROUP_HEADER, MAX_GROUP_CONTENTS } from "../../../core/store/group.ts";
import { listPacks, PACK_HEADER, packHeader, packPath } from "../../../core/store/pack.ts";
import { DIGEST, failure, flipped, range, type TempFolder, tempFolder } from "./contents.ts";
import { digestsOf, packBytes, scan, writePack } from "./packs.ts";

let folder: TempFolder;
let path: string;
beforeEach(() => {
  folder = tempFolder();
  path = packPath(folder.path, 1);
});
afterEach(() => folder[Symbol.dispose]());

const GROUPS = [[0, 2, 4], [1], [6, 3], [8, 10, 12, 14]];
const anyGroups = fc.array(fc.array(fc.nat(40), { minLength: 1, maxLength: 6 }), { maxLength: 6 });

describe("a pack", () => {
  test("gives its groups in order, with their places", async () => {
    const offsets = await writePack(folder.path, 1, GROUPS);
    const { groups, digests, end, size } = await scan(path);
    expect(groups).toEqual(offsets.slice(0, -1).map((offset) => ({ offset, whole: true })));
    expect(Buffer.compare(digests, digestsOf(GROUPS))).toBe(0);
    expect([end, size]).toEqual([offsets.at(-1)!, packBytes(folder.path, 1).length]);
    expect(offsets[0]).toBe(PACK_HEADER);
  });

  test("is read from any of its groups on", async () => {
    const offsets = await writePack(folder.path, 1, GROUPS);
    for (const [i, start] of offsets.entries()) {
      const { groups, digests, end } = await scan(path, start);
      expect(groups.map(({ offset }) => offset)).toEqual(offsets.slice(i, -1));
      expect(Buffer.compare(digests, digestsOf(GROUPS.slice(i)))).toBe(0);
      expect(end).toBe(offsets.at(-1)!);
    }
  });

  test("that ends anywhere gives the groups that are whole, and says where they end", async () => {
    await fc.assert(
      fc.asyncProperty(anyGroups, fc.double({ min: 0, max: 1, noNaN: true }), async (any, share) => {
        using folder = tempFolder();
        const path = packPath(folder.path, 1);
        const groups = any.length > 0 ? any : [[0]];
        const offsets = await writePack(folder.path, 1, groups);
        const cut = PACK_HEADER + Math.floor(share * (offsets.at(-1)! - PACK_HEADER));
        truncateSync(path, cut);
        const found = await scan(path);
        const ends = offsets.slice(1).filter((end) => end <= cut);
        expect(found.groups.length).toBe(ends.length);
        expect([found.end, found.size]).toEqual([ends.at(-1) ?? PACK_HEADER, cut]);
        expect(Buffer.compare(found.digests, digestsOf(groups.slice(0, ends.length)))).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  test("of which any byte is another gives nothing that is wrong", async () => {
    const groups = [[0, 2], [4], [1]];
    const offsets = await writePack(folder.path, 1, groups);
    const bytes = packBytes(folder.path, 1);
    const heads = offsets.slice(0, -1).map((offset, i) => offset + GROUP_HEADER + groups[i]!.length * DIGEST);
    // All of the first two groups, and of the noise in the third enough to know.
    for (let at = 0; at < bytes.length; at += at < offsets[2]! + 120 ? 1 : 97) {
      writeFileSync(path, flipped(bytes, at, 1 << (at % 8)));
      if (at < PACK_HEADER) {
        expect(await failure(scan(path))).toBeInstanceOf(IntegrityError);
        continue;
      }
      const { groups: found, digests, end } = await scan(path);
      const hit = offsets.findLastIndex((offset) => offset <= at);
      if (at < heads[hit]!) {
        if (found.length !== hit || end !== offsets[hit] || found.some(({ whole }) => !whole))
          throw new Error(`byte ${at} of the head of group ${hit}`);
      } else {
        const whole = found.map(({ whole }) => whole);
        if (end !== bytes.length || whole.join() !== groups.map((_, i) => i !== hit).join())
          throw new Error(`byte ${at} of the contents of group ${hit}: ${whole}`);
      }
      expect(Buffer.compare(digests, digestsOf(groups.slice(0, found.length)))).toBe(0);
    }
  });

  test("may have groups that are larger than what is read at once", async () => {
    // 1024 contents of noise: 4.2 MB.
    const large = range(1, MAX_GROUP_CONTENTS, 2);
    const groups = [[0], large, [2, 4], large, large, [6]];
    const offsets = await writePack(folder.path, 1, groups);
    const found = await scan(path);
    expect(found.groups).toEqual(offsets.slice(0, -1).map((offset) => ({ offset, whole: true })));
    expect(Buffer.compare(found.digests, digestsOf(groups))).toBe(0);
    expect(found.end).toBe(found.size);
  });

  test("ends where a header claims more than there is", async () => {
    const offsets = await writePack(folder.path, 1, [[0], [2]]);
    const bytes = packBytes(folder.path, 1);
    bytes.writeUInt32LE(MAX_GROUP_CONTENTS, offsets[1]! + 4);
    writeFileSync(path, bytes);
    expect(await scan(path)).toMatchObject({ groups: [{ offset: PACK_HEADER, whole: true }], end: offsets[1] });
  });
});

describe("what is no pack", () => {
  test("is said to be none: an empty file, too short a one, another", async () => {
    for (const bytes of [Buffer.alloc(0), packHeader().subarray(0, 15), Buffer.from("a text, and a long one\n")]) {
      writeFileSync(path, bytes);
      const error = await failure(scan(path));
      expect(error).toBeInstanceOf(IntegrityError);
      expect(error.message).toContain(path);
    }
    writeFileSync(path, packHeader());
    expect(await scan(path)).toMatchObject({ groups: [], end: PACK_HEADER, size: PACK_HEADER });
  });

  test("is refused where it is one of another version", async () => {
    const header = packHeader();
    header.writeUInt16LE(2, 8);
    header.writeUInt32LE(crc32(header.subarray(0, 12)), 12);
    writeFileSync(path, header);
    const error = await failure(scan(path));
    expect(error.code).toBe("refused");
    expect(error.message).toContain("version 2");
  });

  test("is not there", async () => {
    expect((await failure(scan(path))).code).toBe("input");
    expect((await failure(listPacks(path))).code).toBe("input");
  });

  test("is not listed", async () => {
    const names = ["00002.pack", "00010.pack", "00001.pack", "1.pack", "00003.pack.new", "x00004.pack", "000005.pack"];
    for (const name of names) writeFileSync(`${folder.path}/${name}`, "");
    expect(await listPacks(folder.path)).toEqual([1, 2, 10]);
  });
});
