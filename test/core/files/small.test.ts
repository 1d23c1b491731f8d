import { afterAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSmall } from "../../../core/files/small.ts";
import { within } from "../../support/session.ts";

const folder = mkdtempSync(join(tmpdir(), "shrinker-small-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "file");

test.each([0, 1, 99, 100])("a file of %d bytes is read whole", async (length) => {
  writeFileSync(path, Buffer.alloc(length, "x"));
  expect((await readSmall(path, 100))?.toString()).toBe("x".repeat(length));
});

test("of a longer one nothing is given", async () => {
  for (const length of [101, 1 << 20]) {
    writeFileSync(path, Buffer.alloc(length, "x"));
    expect(await readSmall(path, 100)).toBeUndefined();
  }
});

test("a FIFO is not waited for, and what is missing is said to be", async () => {
  const fifo = join(folder, "fifo");
  expect(spawnSync("mkfifo", [fifo]).status).toBe(0);
  expect(await within(readSmall(fifo, 100))).toBeUndefined();
  expect(await readSmall(join(folder, "none"), 100).catch(({ code }) => code)).toBe("ENOENT");
});
