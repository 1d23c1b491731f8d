import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { ShrinkerError } from "../../../../core/errors.ts";
import { openAside } from "../../../../core/files/aside.ts";
import { fileSink } from "../../../../core/machines/image/file-sink.ts";
import { openImage } from "../../../../core/machines/image/source.ts";
import { type DirectoryOptions, directoryTarget } from "../../../../core/machines/image/target.ts";
import type { StreamInfo, StreamSink } from "../../../../core/machines/machine.ts";
import { folder, noise, sha256, sparseFile } from "./files.ts";

const MIB = 1 << 20;
let dir: ReturnType<typeof folder>;
let out: string;
beforeEach(() => {
  dir = folder();
  out = join(dir.path, "out");
});
afterEach(() => dir.remove());

const open = (info: Partial<StreamInfo> = {}, options?: DirectoryOptions): Promise<StreamSink> =>
  directoryTarget(out, options).open({ name: "disk", format: "raw", ...info });

async function put(sink: StreamSink, bytes: Uint8Array): Promise<void> {
  await sink.write({ bytes: bytes.slice() });
  await sink.finish();
  await sink.commit();
}

async function code(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  return error.code;
}

describe("directoryTarget", () => {
  test("makes the folder, and a file with the stream's bytes, mode, time and digest", async () => {
    const bytes = noise(2 * MIB + 5);
    const sink = await open({ size: bytes.length, mode: 0o6751, mtime: 1_600_000_000_250 });
    await sink.write({ bytes: bytes.slice(0, 100) });
    await sink.write({ bytes: bytes.slice(100) });
    expect(existsSync(join(out, "disk"))).toBe(false);
    const [hidden] = readdirSync(out);
    expect(hidden).toMatch(/^\.disk\.[0-9a-f]{16}\.shrinker-partial$/);
    expect(statSync(join(out, hidden!)).mode & 0o777).toBe(0o600);
    await sink.finish();
    expect(existsSync(join(out, "disk"))).toBe(false);
    await sink.commit();
    await sink.abort();
    expect(readdirSync(out)).toEqual(["disk"]);
    const stats = statSync(join(out, "disk"));
    expect(stats.mode & 0o7777).toBe(0o751);
    expect(Math.round(stats.mtimeMs)).toBe(1_600_000_000_250);
    expect(Buffer.compare(readFileSync(join(out, "disk")), bytes)).toBe(0);
    expect(Buffer.compare(await sink.plainDigest!(), sha256(bytes))).toBe(0);
  });

  test("is readable by its owner only where no mode is known, and survives an impossible time", async () => {
    await put(await open({ mtime: Number.NaN }), noise(10));
    expect(statSync(join(out, "disk")).mode & 0o7777).toBe(0o600);
  });

  test("keeps any sequence of bytes and zeros, with its digest", async () => {
    const part = fc.oneof(
      fc.integer({ min: 1, max: 300_000 }),
      fc.uint8Array({ minLength: 1, maxLength: 10_000 }).map((bytes) => Uint8Array.from(bytes)),
    );
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 8 }), async (parts) => {
        const sink = await open({ name: `file${run++}` });
        const want = Buffer.concat(parts.map((p) => (typeof p === "number" ? Buffer.alloc(p) : Buffer.from(p))));
        for (const p of parts) await (typeof p === "number" ? sink.zeros(p) : sink.write({ bytes: p.slice() }));
        await sink.finish();
        await sink.commit();
        expect(Buffer.compare(readFileSync(join(out, `file${run - 1}`)), want)).toBe(0);
        expect(Buffer.compare(await sink.plainDigest!(), sha256(want))).toBe(0);
      }),
      { numRuns: 20 },
    );
  });

  test("releases each piece once, with a buffer of the same size", async () => {
    const sink = await open();
    const back: number[] = [];
    for (let i = 0; i < 30; i++) {
      await sink.write({
        bytes: new Uint8Array(MIB).subarray(i, MIB - i),
        release: (buffer) => void back.push(buffer?.byteLength ?? MIB),
      });
    }
    await sink.finish();
    await sink.plainDigest!();
    expect(back).toEqual(new Array(30).fill(MIB));
    await sink.abort();
  });

  test("holes in are holes out", async () => {
    const size = 2 * 2 ** 30 + 9 * MIB + 1;
    await sparseFile(join(dir.path, "in"), size, [
      [MIB, noise(MIB, 1)],
      [2 * 2 ** 30 + 4096, noise(5000, 2)],
    ]);
    const source = await openImage({ path: join(dir.path, "in"), digest: false });
    const sink = await open({ ...source.info, name: "disk" }, { digest: false });
    for await (const piece of source.pieces(new AbortController().signal)) {
      await ("zeros" in piece ? sink.zeros(piece.zeros) : sink.write(piece));
    }
    await sink.finish();
    await sink.commit();
    const [was, is] = [statSync(join(dir.path, "in")), statSync(join(out, "disk"))];
    expect(is.size).toBe(size);
    expect(is.blocks).toBeLessThanOrEqual(was.blocks + 64);
    const copy = await openImage({ path: join(out, "disk"), digest: false });
    let position = 0;
    for await (const piece of copy.pieces(new AbortController().signal)) {
      if ("bytes" in piece) {
        if (position <= MIB && MIB < position + piece.bytes.length) {
          const length = Math.min(MIB, position + piece.bytes.length - MIB);
          const found = piece.bytes.subarray(MIB - position, MIB - position + length);
          expect(Buffer.compare(found, noise(MIB, 1).subarray(0, length))).toBe(0);
        }
        position += piece.bytes.length;
        piece.release?.();
      } else position += piece.zeros;
    }
    expect(position).toBe(size);
  });

  test("leaves nothing behind when it is given up, at any point", async () => {
    await (await open()).abort();
    const half = await open();
    await half.write({ bytes: noise(MIB) });
    await half.abort();
    await half.abort();
    const finished = await open();
    await finished.write({ bytes: noise(MIB) });
    await finished.finish();
    await finished.abort();
    expect(readdirSync(out)).toEqual([]);
  });

  test("takes neither more nor fewer bytes than were announced", async () => {
    const sink = await open({ size: 10 });
    await sink.write({ bytes: noise(9) });
    expect(await code(sink.finish())).toBe("integrity");
    expect(await code(sink.zeros(2))).toBe("integrity");
    expect(await code(sink.write({ bytes: noise(2) }))).toBe("integrity");
    await sink.abort();
    const unknown = await open();
    await unknown.zeros(10);
    expect(await code(unknown.zeros(Number.MAX_SAFE_INTEGER))).toBe("integrity");
    await unknown.abort();
  });

  test("tells that a file system is full, and gives the piece back", async () => {
    const aside = await openAside(dir.path, "disk", false);
    const full = async () => Promise.reject(Object.assign(new Error("full"), { code: "ENOSPC" }));
    const handle = { write: full } as unknown as FileHandle;
    const sink = await fileSink({ ...aside, handle }, { name: "disk", format: "raw" }, true);
    let released = 0;
    expect(await code(sink.write({ bytes: noise(10), release: () => void released++ }))).toBe("space");
    expect(released).toBe(1);
    await sink.abort();
    expect(readdirSync(dir.path)).toEqual([]);
  });
});

describe("names at the destination", () => {
  test.each([["../x"], ["a/b"], [".."], [""], ["x\0"], ["/abs"]])(
    "%j is refused, and nothing is made",
    async (name) => {
      expect(await code(open({ name }))).toBe("refused");
      expect(existsSync(out)).toBe(false);
    },
  );

  test("the longest possible is written aside under a shorter one", async () => {
    const name = "é".repeat(127);
    await put(await open({ name }), noise(3));
    expect(readdirSync(out)).toEqual([name]);
  });

  test("one that is taken is refused at once, unless it is to be replaced", async () => {
    await put(await open(), noise(3));
    expect(await code(open())).toBe("exists");
    await put(await open({}, { force: true }), noise(4));
    expect(statSync(join(out, "disk")).size).toBe(4);
    mkdirSync(join(out, "folder"));
    expect(await code(open({ name: "folder" }, { force: true }))).toBe("exists");
  });

  test.each([[false], [true]])("two that race for one (force: %j)", async (force) => {
    const [a, b] = [await open({}, { force }), await open({}, { force })];
    await a.write({ bytes: noise(3) });
    await b.write({ bytes: noise(4) });
    await Promise.all([a.finish(), b.finish()]);
    const ends = await Promise.allSettled([a.commit(), b.commit()]);
    const lost = ends.filter((end) => end.status === "rejected");
    expect(lost.map(({ reason }) => reason.code)).toEqual(force ? [] : ["exists"]);
    await Promise.all([a.abort(), b.abort()]);
    expect(readdirSync(out)).toEqual(["disk"]);
    if (!force) expect(statSync(join(out, "disk")).size).toBe(ends[0]!.status === "fulfilled" ? 3 : 4);
  });

  test("a symbolic link is neither followed nor written through", async () => {
    const victim = join(dir.path, "victim");
    writeFileSync(victim, "mine");
    mkdirSync(out);
    symlinkSync(victim, join(out, "disk"));
    expect(await code(open())).toBe("exists");
    symlinkSync(join(dir.path, "nowhere"), join(out, "dangling"));
    expect(await code(open({ name: "dangling" }))).toBe("exists");
    await put(await open({}, { force: true }), noise(3));
    expect(lstatSync(join(out, "disk")).isSymbolicLink()).toBe(false);
    expect(readFileSync(victim, "utf8")).toBe("mine");
    const late = await open({ name: "late" });
    symlinkSync(victim, join(out, "late"));
    await late.finish();
    expect(await code(late.commit())).toBe("exists");
    await late.abort();
    expect(readFileSync(victim, "utf8")).toBe("mine");
  });

  test("a folder that is a file is told", async () => {
    writeFileSync(out, "");
    const error = await open().catch((error) => error);
    expect(error.code).toBe("input");
    expect(error.message).toContain(`"${out}"`);
  });
});
