import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { IntegrityError } from "../../../core/errors.ts";
import { LogReader, LogWriter, listLogs, logName, trimLogs } from "../../../core/store/content-log.ts";
import { DIGEST, failure, flipped, type TempFolder, tempFolder } from "./contents.ts";

let folder: TempFolder;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

const NO_PAGES = new Uint8Array(0);
const session = (number: number) => Buffer.alloc(16, number);
const pathOf = (number: number) => join(folder.path, logName(session(number)));

/** As good as digests: every word of one says which it is. */
function digests(first: number, count: number): Uint8Array {
  const words = new Uint32Array(count * 8);
  for (let i = 0; i < count; i++) words.fill(first + i + 1, i * 8, (i + 1) * 8);
  return new Uint8Array(words.buffer);
}

/** Writes a log of so many digests, in parts of these lengths in turn. */
async function writeLog(path: string, number: number, count: number, parts: readonly number[] = [100]): Promise<void> {
  const log = await LogWriter.create(path, session(number));
  for (let done = 0, turn = 0; done < count; turn++) {
    const part = Math.min(parts[turn % parts.length]!, count - done);
    await log.put(digests(done, part), NO_PAGES, part);
    done += part;
  }
  await log.end();
}

/** Opens a log, which must be right as far as it goes; returns how many digests it has. */
function lengthOf(path: string): number | undefined {
  const log = LogReader.open(path);
  if (!log) return undefined;
  try {
    const read = new Uint8Array(log.length * DIGEST);
    log.read(0, log.length, read, 0);
    if (Buffer.compare(read, digests(0, log.length)) !== 0) throw new Error("it gives other digests");
    return log.length;
  } finally {
    log.close();
  }
}

describe("a log", () => {
  test("gives what it was given, wherever it is read", async () => {
    const count = fc.oneof(fc.integer({ min: 1, max: 1200 }), fc.constantFrom(255, 256, 257, 512));
    const parts = fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 5 });
    const reads = fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(count, parts, reads, async (count, parts, reads) => {
        using folder = tempFolder();
        await writeLog(folder.path, 7, count, parts);
        const log = LogReader.open(join(folder.path, logName(session(7))))!;
        expect([log.length, Buffer.compare(log.session, session(7))]).toEqual([count, 0]);
        for (const [a, b] of reads) {
          const first = a % count;
          const part = 1 + (b % (count - first));
          const target = new Uint8Array((part + 2) * DIGEST).fill(0xee);
          log.read(first, part, target, DIGEST);
          expect(Buffer.compare(target.subarray(DIGEST, -DIGEST), digests(first, part))).toBe(0);
          const around = [...target.subarray(0, DIGEST), ...target.subarray(-DIGEST)];
          expect(around.every((byte) => byte === 0xee)).toBe(true);
        }
        log.close();
      }),
      { numRuns: 40 },
    );
  });

  test("that is cut short anywhere gives the blocks that are whole", async () => {
    await writeLog(folder.path, 1, 300);
    const whole = readFileSync(pathOf(1));
    expect(whole.length).toBe(64 + 8200 + 8 + 44 * DIGEST);
    for (let length = whole.length; length >= 0; length--) {
      truncateSync(pathOf(1), length);
      const right = length === whole.length ? 300 : length >= 64 + 8200 ? 256 : length >= 64 ? 0 : undefined;
      if (lengthOf(pathOf(1)) !== right) throw new Error(`of ${length} bytes`);
    }
  });

  test("of which any byte is another counts up to there", async () => {
    await writeLog(folder.path, 1, 600);
    const whole = readFileSync(pathOf(1));
    for (let at = 0; at < whole.length; at += at < 200 || at % 8200 < 80 ? 1 : 13) {
      writeFileSync(pathOf(1), flipped(whole, at, 1 << (at % 8)));
      const right = at < 64 ? undefined : Math.floor((at - 64) / 8200) * 256;
      if (lengthOf(pathOf(1)) !== right) throw new Error(`byte ${at}`);
    }
  });

  test("of which a block in the middle claims to be the last, or to be longer, ends there", async () => {
    await writeLog(folder.path, 1, 600);
    const whole = readFileSync(pathOf(1));
    for (const count of [0, 255, 257, 2 ** 32 - 1]) {
      const bytes = Buffer.from(whole);
      bytes.writeUInt32LE(count, 64 + 8200);
      writeFileSync(pathOf(1), bytes);
      expect(lengthOf(pathOf(1))).toBe(256);
    }
  });

  test("whose writer has died has all but the last 255", async () => {
    const log = await LogWriter.create(folder.path, session(1));
    await log.put(digests(0, 700), NO_PAGES, 700);
    expect(lengthOf(pathOf(1))).toBe(512);
    await log.end();
    expect(lengthOf(pathOf(1))).toBe(700);
    await log.end();
  });

  test("of nothing is removed", async () => {
    const empty = await LogWriter.create(folder.path, session(1));
    await empty.end();
    expect(readdirSync(folder.path)).toEqual([]);
    await writeLog(folder.path, 1, 3);
    expect(statSync(pathOf(1)).mode & 0o777).toBe(0o600);
    expect((await failure(LogWriter.create(join(folder.path, "none"), session(1)))).code).toBe("input");
  });

  test("of a session that comes again, and perhaps further, has all of it", async () => {
    for (const [count, length] of [
      [300, 300],
      [700, 700],
      [10, 700],
      [0, 700],
    ] as const) {
      await writeLog(folder.path, 1, count);
      expect(lengthOf(pathOf(1))).toBe(length);
    }
  });

  test("of a session that somebody else names stays as it is", async () => {
    await writeLog(folder.path, 1, 600);
    const before = readFileSync(pathOf(1));
    const ends = [(log: LogWriter) => log.end(), (log: LogWriter) => log.remove()];
    for (const [from, count] of [
      [9000, 700],
      [9000, 3],
      [0, 0],
    ] as const) {
      for (const end of ends) {
        const log = await LogWriter.create(folder.path, session(1));
        await log.put(digests(from, count), NO_PAGES, count);
        await end(log);
        expect(readFileSync(pathOf(1)).equals(before)).toBe(true);
      }
    }
  });

  test("of a session that somebody else names meanwhile is not written by both", async () => {
    const log = await LogWriter.create(folder.path, session(1));
    const other = await LogWriter.create(folder.path, session(1));
    await log.put(digests(0, 600), NO_PAGES, 600);
    await other.put(digests(9000, 800), NO_PAGES, 800);
    await other.end();
    await log.put(digests(600, 100), NO_PAGES, 100);
    await log.end();
    expect(lengthOf(pathOf(1))).toBe(700);
  });

  test("that changes while it is used is said to", async () => {
    await writeLog(folder.path, 1, 600);
    const log = LogReader.open(pathOf(1))!;
    const target = new Uint8Array(600 * DIGEST);
    log.read(0, 10, target, 0);
    truncateSync(pathOf(1), 64 + 8200 + 100);
    expect(() => log.read(300, 1, target, 0)).toThrow(IntegrityError);
    // The block that it has is still right.
    log.read(0, 256, target, 0);
    log.close();
  });

  test("that is gone is none; what can't be read is said to be so", () => {
    expect(LogReader.open(pathOf(1))).toBe(undefined);
    mkdirSync(pathOf(2));
    expect(() => LogReader.open(pathOf(2))).toThrow(pathOf(2));
    writeFileSync(pathOf(3), "no log");
    expect(LogReader.open(pathOf(3))).toBe(undefined);
  });
});

describe("logs of a folder", () => {
  /** Logs from the oldest to the latest, of so many digests each. */
  async function writeLogs(...counts: number[]): Promise<void> {
    for (const [i, count] of counts.entries()) {
      await writeLog(folder.path, i, count, [1000]);
      utimesSync(pathOf(i), 1_700_000_000 + i, 1_700_000_000 + i);
    }
  }
  const left = async () => (await listLogs(folder.path)).map(({ session }) => Number(`0x${session.slice(0, 2)}`));

  test("are listed from the latest on, and what is none is not", async () => {
    await writeLogs(1, 1, 1);
    for (const name of ["x.log", `${"a".repeat(32)}.log.new`, `${"A".repeat(32)}.log`]) {
      writeFileSync(join(folder.path, name), "");
    }
    expect(await left()).toEqual([2, 1, 0]);
    utimesSync(pathOf(0), 1_800_000_000, 1_800_000_000);
    expect(await left()).toEqual([0, 2, 1]);
    expect(await listLogs(join(folder.path, "none"))).toEqual([]);
  });

  test("are trimmed to so many, and to so many digests; the oldest go", async () => {
    await writeLogs(300, 10, 300, 20);
    await trimLogs(folder.path, 10_000, 4);
    expect(await left()).toEqual([3, 2, 1, 0]);
    await trimLogs(folder.path, 10_000, 3);
    expect(await left()).toEqual([3, 2, 1]);
    // The one that reaches beyond the bound is the last that stays.
    await trimLogs(folder.path, 300, 3);
    expect(await left()).toEqual([3, 2]);
    await trimLogs(folder.path, 5, 3);
    expect(await left()).toEqual([3]);
    await trimLogs(folder.path, 10_000, 0);
    expect(readdirSync(folder.path)).toEqual([]);
    rmSync(folder.path, { recursive: true });
    await trimLogs(folder.path, 1, 1);
  });
});
