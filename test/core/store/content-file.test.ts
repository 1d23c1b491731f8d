import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { IntegrityError, ShrinkerError } from "../../../core/errors.ts";
import { ContentFile, FILE_CONTENTS } from "../../../core/store/content-file.ts";
import { NumberSet } from "../../../core/store/number-set.ts";

const PAGE = 4096;

/** A content that is its number's alone: every word of it says which. */
function page(number: number, into = Buffer.alloc(PAGE), at = 0): Buffer {
  new Uint32Array(into.buffer, into.byteOffset + at, PAGE / 4).fill(number + 1);
  return into;
}

function pages(first: number, count: number): Buffer {
  const bytes = Buffer.alloc(count * PAGE);
  for (let i = 0; i < count; i++) page(first + i, bytes, i * PAGE);
  return bytes;
}

/** Descriptors that this process has open in a folder, with what they say of their file. */
function open(dir: string): { path: string; stat: fs.Stats }[] {
  const found: { path: string; stat: fs.Stats }[] = [];
  for (const fd of fs.readdirSync("/proc/self/fd")) {
    try {
      const path = fs.readlinkSync(`/proc/self/fd/${fd}`);
      if (path.startsWith(dir)) found.push({ path, stat: fs.statSync(`/proc/self/fd/${fd}`) });
    } catch {
      // The descriptor with which the folder was listed.
    }
  }
  return found;
}

const linux = process.platform === "linux";

describe("content file", () => {
  let dir = "";
  beforeEach(() => {
    dir = fs.mkdtempSync(join(tmpdir(), "shrinker-store-"));
  });
  afterEach(() => {
    // Nothing is left, whatever a test did.
    const left = fs.readdirSync(dir);
    fs.rmSync(dir, { recursive: true });
    expect(left).toEqual([]);
    if (linux) expect(open(dir)).toEqual([]);
  });

  async function withFile(work: (file: ContentFile) => Promise<void>, first = 0, perFile = 4): Promise<void> {
    const file = new ContentFile(dir, first, perFile);
    try {
      await work(file);
    } finally {
      file.close();
    }
  }

  test("appends, reads and forgets as an array does", () => {
    const command = fc.oneof(
      { weight: 4, arbitrary: fc.tuple(fc.constant("append" as const), fc.integer({ min: 0, max: 9 })) },
      { weight: 2, arbitrary: fc.tuple(fc.constant("forget" as const), fc.nat(60)) },
      { weight: 4, arbitrary: fc.tuple(fc.constant("read" as const), fc.nat(10_000)) },
    );
    return fc.assert(
      fc.asyncProperty(
        fc.array(command, { maxLength: 40 }),
        fc.integer({ min: 1, max: 7 }),
        fc.oneof(fc.constant(0), fc.nat(30), fc.constant(2 ** 32 - 5)),
        (commands, perFile, first) =>
          withFile(
            async (file) => {
              let low = first;
              let next = first;
              for (const [kind, value] of commands) {
                if (kind === "append") {
                  await file.append(pages(next, value), value);
                  next += value;
                } else if (kind === "forget") {
                  file.forget(first + value);
                  low = Math.max(low, Math.min(first + value, next));
                } else if (next > low) {
                  const number = low + (value % (next - low));
                  const count = 1 + (value % Math.min(8, next - number));
                  const target = Buffer.alloc((count + 2) * PAGE, 0xee);
                  file.read(number, count, target, PAGE);
                  expect(Buffer.compare(target.subarray(PAGE, (count + 1) * PAGE), pages(number, count))).toBe(0);
                  const around = [target.subarray(0, PAGE), target.subarray((count + 1) * PAGE)];
                  expect(around.every((part) => part.every((byte) => byte === 0xee))).toBe(true);
                }
                expect([file.low, file.next]).toEqual([low, next]);
              }
              if (linux) expect(open(dir).length).toBeLessThanOrEqual(Math.ceil((next - low) / perFile) + 1);
            },
            first,
            perFile,
          ),
      ),
      { numRuns: 60 },
    );
  });

  test("more than what is appended is not looked at", () =>
    withFile(async (file) => {
      await file.append(pages(0, 6), 5);
      expect(file.next).toBe(5);
      expect(() => file.read(5, 1, Buffer.alloc(PAGE), 0)).toThrow(IntegrityError);
    }));

  test("what nobody will read is not written, and refused", async () => {
    const kept = new NumberSet();
    for (const number of [1, 2, 5, 9]) kept.add(number);
    const file = new ContentFile(dir, 0, 4, kept);
    await file.append(pages(0, 7), 7);
    await file.append(pages(7, 3), 3);
    const target = Buffer.alloc(2 * PAGE);
    file.read(1, 2, target, 0);
    expect(Buffer.compare(target, pages(1, 2))).toBe(0);
    for (const number of [5, 9]) {
      file.read(number, 1, target, 0);
      expect(Buffer.compare(target.subarray(0, PAGE), page(number))).toBe(0);
    }
    for (const [number, count] of [
      [0, 1],
      [0, 2],
      [2, 2],
      [6, 1],
    ] as const) {
      expect(() => file.read(number, count, target, 0)).toThrow("nothing was to refer to");
    }
    if (linux) expect(open(dir).map(({ stat }) => stat.size)).toEqual([3 * PAGE, 2 * PAGE, 2 * PAGE]);
    file.close();
  });

  test("what is not held is refused by its numbers", () =>
    withFile(async (file) => {
      const target = Buffer.alloc(10 * PAGE);
      expect(() => file.read(10, 1, target, 0)).toThrow(IntegrityError);
      await file.append(pages(10, 8), 8);
      file.forget(13);
      for (const [number, count] of [
        [12, 1],
        [12, 3],
        [9, 9],
        [17, 2],
        [18, 1],
        [-1, 1],
        [2 ** 40, 1],
      ] as const) {
        expect(() => file.read(number, count, target, 0)).toThrow(IntegrityError);
      }
      expect(() => file.read(12, 1, target, 0)).toThrow("contents 12 to 12 are not held (13 to 17 are)");
      expect(target.every((byte) => byte === 0)).toBe(true);
      file.read(13, 5, target, 0);
    }, 10));

  test.if(linux)("the files have no name, are their owner's alone, and are given back one by one", async () => {
    const mask = process.umask(0);
    try {
      await withFile(async (file) => {
        await file.append(pages(0, 10), 10);
        expect(fs.readdirSync(dir)).toEqual([]);
        const files = open(dir);
        expect(files).toHaveLength(3);
        for (const { path, stat } of files) {
          expect(path).toContain("(deleted)");
          expect(stat.nlink).toBe(0);
          expect(stat.mode & 0o777).toBe(0o600);
        }
        const count = (low: number) => {
          file.forget(low);
          return open(dir).length;
        };
        expect([count(3), count(4), count(7), count(8), count(10)]).toEqual([3, 2, 2, 1, 1]);
        await file.append(pages(10, 3), 3);
        const target = Buffer.alloc(3 * PAGE);
        file.read(10, 3, target, 0);
        expect(Buffer.compare(target, pages(10, 3))).toBe(0);
      });
    } finally {
      process.umask(mask);
    }
  });

  test("no file is made before there is a content, and none after the last was forgotten", () =>
    withFile(async (file) => {
      if (linux) expect(open(dir)).toEqual([]);
      await file.append(Buffer.alloc(0), 0);
      await file.append(pages(0, 4), 4);
      file.forget(4);
      if (linux) expect(open(dir)).toEqual([]);
      await file.append(pages(4, 1), 1);
      file.read(4, 1, Buffer.alloc(PAGE), 0);
    }));

  test("numbers that are passed over take no room, and neither they nor those before them are held", () =>
    withFile(async (file) => {
      await file.append(pages(0, 3), 3);
      file.skip(6);
      if (linux) expect(open(dir)).toEqual([]);
      expect([file.low, file.next]).toEqual([9, 9]);
      await file.append(pages(9, 2), 2);
      const target = Buffer.alloc(2 * PAGE);
      file.read(9, 2, target, 0);
      expect(Buffer.compare(target, pages(9, 2))).toBe(0);
      expect(() => file.read(8, 1, target, 0)).toThrow(IntegrityError);
      file.skip(1);
      expect(() => file.read(10, 1, target, 0)).toThrow(IntegrityError);
    }));

  test("a file has 256 MiB", () => expect(FILE_CONTENTS * 4096).toBe(256 << 20));

  test("two in one folder keep apart", () =>
    withFile((one) =>
      withFile(async (other) => {
        await Promise.all([one.append(pages(0, 9), 9), other.append(pages(100, 9), 9)]);
        const target = Buffer.alloc(PAGE);
        one.read(7, 1, target, 0);
        expect(Buffer.compare(target, page(7))).toBe(0);
        other.read(7, 1, target, 0);
        expect(Buffer.compare(target, page(107))).toBe(0);
      }),
    ));

  test("closed, it holds nothing and may be closed again", async () => {
    const file = new ContentFile(dir, 0, 4);
    await file.append(pages(0, 5), 5);
    file.close();
    file.close();
    expect(() => file.read(4, 1, Buffer.alloc(PAGE), 0)).toThrow(IntegrityError);
  });

  test.if(linux)("a disk that is full is told, and what was appended before stays", async () => {
    // A limit on the size of files is met as a full disk is, and needs no disk of its own.
    const program = fileURLToPath(new URL("fill.ts", import.meta.url));
    const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
    const limited = ["-c", `trap "" XFSZ; ulimit -f 2048; exec "$0" "$@"`, process.execPath, ...flags, program, dir];
    const { stdout } = await promisify(execFile)("/bin/sh", limited);
    const { code, message, held, last } = JSON.parse(stdout);
    // Deno names a full disk, but not this limit.
    expect(code).toBe("Deno" in globalThis ? "input" : "space");
    expect(message).toContain(dir);
    expect(held).toBeGreaterThan(0);
    expect(held % 64).toBe(0);
    expect(last).toBe(1);
  });

  test("a folder that is not one is told by its name and the remedy", async () => {
    const plain = join(dir, "file");
    fs.writeFileSync(plain, "");
    for (const path of [join(dir, "nowhere"), plain]) {
      const file = new ContentFile(path);
      const error = await file.append(pages(0, 1), 1).then(
        () => undefined,
        (error) => error,
      );
      expect(error).toBeInstanceOf(ShrinkerError);
      expect(error.code).toBe("input");
      expect(error.message).toContain(`"${path}"`);
      expect(error.message).toContain("--spool");
      // Nothing was appended.
      expect(file.next).toBe(0);
      file.close();
    }
    fs.rmSync(plain);
  });
});
