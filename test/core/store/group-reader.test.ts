import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { IntegrityError } from "../../../core/errors.ts";
import { GROUP_CONTENTS, GROUP_ROOM } from "../../../core/store/group.ts";
import { GroupReader } from "../../../core/store/group-reader.ts";
import { PACK_HEADER, packPath } from "../../../core/store/pack.ts";
import { contents, failure, flipped, range, tempFolder } from "./contents.ts";
import { writePack } from "./packs.ts";

/** Small ones, one as large as they arrive, one of noise that is stored as it is, and one as a repack makes it. */
const GROUPS = [
  [0],
  [1],
  range(2, 5),
  range(0, GROUP_CONTENTS, 2),
  range(1, GROUP_CONTENTS, 2),
  range(0, 300, 2),
  [7, 8],
];

test("groups come as they were put, in memory that is used again, however many are asked for at once", async () => {
  using folder = tempFolder();
  const offsets = await writePack(folder.path, 1, GROUPS);
  // Room for two groups, so that nearly every read takes the memory of another.
  const reader = new GroupReader(folder.path, 2 << 20);
  const read = (k: number) =>
    reader.read({ pack: 1, offset: offsets[k]! }, ({ pages, digests }) => {
      const right = contents(GROUPS[k]!);
      expect(Buffer.compare(pages, right.pages)).toBe(0);
      expect(Buffer.compare(digests, right.digests)).toBe(0);
    });
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: 40 }, (_, i) => read((i * (round + 3) + (i >> 2)) % GROUPS.length)));
  }
  for (let k = 0; k < GROUPS.length; k++) await read(k);
  reader.close();
});

test("64 MiB of groups are kept, those that were used last", async () => {
  using folder = tempFolder();
  const count = 70;
  const offsets = await writePack(
    folder.path,
    1,
    range(0, count).map((number) => [number]),
  );
  const reader = new GroupReader(folder.path);
  const read = (k: number) => reader.read({ pack: 1, offset: offsets[k]! }, () => {});
  for (let k = 0; k < count; k++) await read(k);
  // Only what is kept can be had now.
  writeFileSync(packPath(folder.path, 1), Buffer.alloc(offsets[count]!));
  const kept = Math.floor((64 << 20) / GROUP_ROOM);
  for (let k = count - 1; k >= count - kept; k--) await read(k);
  expect(await failure(read(count - kept - 1))).toBeInstanceOf(IntegrityError);
  reader.close();
});

test("eight are read at once, however many are asked for", async () => {
  using folder = tempFolder();
  const packs = range(1, 30);
  for (const pack of packs) await writePack(folder.path, pack, [[pack]]);
  const reader = new GroupReader(folder.path);
  let open: number | undefined;
  const use = () => {
    // All have asked to open theirs before the first has read of it.
    // Deno has a second descriptor of a file while it reads.
    open ??= new Set(
      readdirSync("/proc/self/fd")
        .map(linkOf)
        .filter((path) => path.startsWith(folder.path)),
    ).size;
  };
  await Promise.all(packs.map((pack) => reader.read({ pack, offset: PACK_HEADER }, use)));
  expect(open).toBeGreaterThan(1);
  expect(open).toBeLessThanOrEqual(8);
  reader.close();
});

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // It was the folder's own.
  }
}

test("a group that is damaged is refused, and read once it is right", async () => {
  using folder = tempFolder();
  const offsets = await writePack(folder.path, 1, GROUPS);
  const path = packPath(folder.path, 1);
  const whole = readFileSync(path);
  const reader = new GroupReader(folder.path);
  const read = (k: number) => reader.read({ pack: 1, offset: offsets[k]! }, () => {});
  for (const at of [offsets[2]!, offsets[2]! + 30, offsets[3]! - 1]) {
    writeFileSync(path, flipped(whole, at));
    expect(await failure(read(2))).toBeInstanceOf(IntegrityError);
    await read(1);
  }
  writeFileSync(path, whole);
  await read(2);
  writeFileSync(path, whole.subarray(0, offsets[6]! + 40));
  expect(await failure(read(6))).toBeInstanceOf(IntegrityError);
  expect((await failure(reader.read({ pack: 9, offset: 16 }, () => {}))).code).toBe("input");
  reader.close();
});
