import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OpenPacks } from "../../../core/store/open-packs.ts";
import { packPath, readAt } from "../../../core/store/pack.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "shrinker-packs-"));
  for (let number = 1; number <= 12; number++) writeFileSync(packPath(folder, number), `pack ${number}`);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Descriptors of this process that are packs of the folder. */
function open(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
    } catch {
      return false; // It was the folder's own.
    }
  }).length;
}

async function settled(count: number): Promise<void> {
  for (let i = 0; i < 200 && open() !== count; i++) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(open()).toBe(count);
}

const text = (packs: OpenPacks, number: number) =>
  packs.read(number, async (handle, path) => (await readAt(handle, path, 0, 20)).toString());

test("packs are read, many at once, and few stay open", async () => {
  const packs = new OpenPacks(folder);
  const numbers = Array.from({ length: 60 }, (_, i) => 1 + ((i * 7) % 12));
  expect(await Promise.all(numbers.map((number) => text(packs, number)))).toEqual(
    numbers.map((number) => `pack ${number}`),
  );
  await settled(4);
  packs.close();
  await settled(0);
});

test("a pack that is being read is not closed", async () => {
  const packs = new OpenPacks(folder);
  const gate = Promise.withResolvers<void>();
  const slow = packs.read(1, async (handle, path) => {
    await gate.promise;
    return (await readAt(handle, path, 0, 20)).toString();
  });
  for (let number = 2; number <= 12; number++) await text(packs, number);
  gate.resolve();
  expect(await slow).toBe("pack 1");
  packs.close();
  await settled(0);
});

test("a pack that can't be opened is tried again", async () => {
  const packs = new OpenPacks(folder);
  await expect(text(packs, 77)).rejects.toThrow("no such file");
  writeFileSync(packPath(folder, 77), "pack 77");
  expect(await text(packs, 77)).toBe("pack 77");
  packs.close();
  await settled(0);
});
