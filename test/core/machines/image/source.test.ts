import { afterAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { CancelledError, type ShrinkerError } from "../../../../core/errors.ts";
import { openImage } from "../../../../core/machines/image/source.ts";
import type { Piece } from "../../../../core/machines/machine.ts";
import { folder, noise, readAll, sha256, sparseFile } from "./files.ts";

const MIB = 1 << 20;
const dir = folder();
afterAll(dir.remove);
const at = (name: string) => join(dir.path, name);

async function failure(promise: Promise<unknown>): Promise<ShrinkerError> {
  const error = await promise.then(
    () => undefined,
    (error) => error,
  );
  expect(error?.name).toBe("ShrinkerError");
  return error;
}

describe("openImage", () => {
  test("tells name, format, size, mode and time, and reads the bytes", async () => {
    const bytes = noise(3 * MIB + 777);
    writeFileSync(at("disk.img"), bytes);
    chmodSync(at("disk.img"), 0o640);
    utimesSync(at("disk.img"), 1_700_000_000.5, 1_700_000_000.5);
    const source = await openImage({ path: at("disk.img") });
    expect(source.info).toEqual({
      name: "disk.img",
      format: "raw",
      size: bytes.length,
      mode: 0o640,
      mtime: 1_700_000_000_500,
    });
    expect(Buffer.compare(await readAll(source), bytes)).toBe(0);
    expect(Buffer.compare(await source.plainDigest!(), sha256(bytes))).toBe(0);
  });

  test("knows a QEMU stream by its beginning, unless a format is given", async () => {
    writeFileSync(at("saved"), Buffer.concat([Buffer.from("QEVM\0\0\0\x03\x07\0\0\0\x01a", "latin1"), noise(100)]));
    expect((await openImage({ path: at("saved") })).info.format).toBe("qemu");
    expect((await openImage({ path: at("saved"), format: "bytes", name: "vm" })).info).toMatchObject({
      name: "vm",
      format: "bytes",
    });
    expect((await failure(openImage({ path: at("saved"), format: "vhd" }))).code).toBe("usage");
  });

  test("an empty file has no pieces, and the digest of nothing", async () => {
    writeFileSync(at("empty"), "");
    const source = await openImage({ path: at("empty") });
    expect((await readAll(source)).length).toBe(0);
    expect(Buffer.compare(await source.plainDigest!(), sha256(new Uint8Array()))).toBe(0);
  });

  test("without the digest, reads the same", async () => {
    writeFileSync(at("plain"), noise(2 * MIB));
    const source = await openImage({ path: at("plain"), digest: false });
    expect(source.plainDigest).toBe(undefined);
    expect(Buffer.compare(await readAll(source), noise(2 * MIB))).toBe(0);
  });

  test("gives holes as holes, and the bytes and digest are those of the file", async () => {
    const parts = [
      [0, noise(5000, 1)],
      [4 * MIB, noise(MIB + 4096, 2)],
      [9 * MIB + 100, noise(10, 3)],
    ] as const;
    const size = 12 * MIB + 5;
    await sparseFile(at("sparse"), size, parts);
    const want = Buffer.alloc(size);
    for (const [offset, bytes] of parts) want.set(bytes, offset);
    const source = await openImage({ path: at("sparse") });
    let holes = 0;
    let read = 0;
    const got = await readAll(source, (piece) => {
      if ("zeros" in piece) holes += piece.zeros;
      else read += piece.bytes.length;
    });
    expect(Buffer.compare(got, want)).toBe(0);
    expect(Buffer.compare(await source.plainDigest!(), sha256(want))).toBe(0);
    // File systems allocate in larger units than a page, but not a MiB each.
    expect(holes).toBeGreaterThan(8 * MIB);
    expect(read).toBeLessThan(4 * MIB);
  });

  test("reads 6 GiB with data beyond 4 GiB by their holes", async () => {
    const size = 6 * 2 ** 30 + 3;
    const offset = 5 * 2 ** 30 + 8192;
    await sparseFile(at("huge"), size, [[offset, noise(4096)]]);
    let position = 0;
    let seen = false;
    const source = await openImage({ path: at("huge"), digest: false });
    for await (const piece of source.pieces(new AbortController().signal)) {
      const length = "zeros" in piece ? piece.zeros : piece.bytes.length;
      if (position <= offset && offset < position + length && "bytes" in piece) {
        const found = piece.bytes.subarray(offset - position, offset - position + 4096);
        seen = Buffer.compare(found, noise(4096)) === 0;
      }
      position += length;
      if ("bytes" in piece) piece.release?.();
    }
    expect(position).toBe(size);
    expect(seen).toBe(true);
  });

  test("waits for buffers when none is given back, and goes on when one is", async () => {
    writeFileSync(at("held"), noise(20 * MIB));
    const pieces = (await openImage({ path: at("held") })).pieces(new AbortController().signal)[Symbol.asyncIterator]();
    const held: Piece[] = [];
    let waiting: Promise<IteratorResult<Piece>> | undefined;
    while (!waiting) {
      const next = pieces.next();
      const late = await Promise.race([next, new Promise<undefined>((resolve) => setTimeout(resolve, 300))]);
      if (late) held.push(late.value);
      else waiting = next;
    }
    expect(held.length).toBeGreaterThan(3);
    expect(held.length).toBeLessThan(17);
    const [first] = held;
    if (first && "bytes" in first) first.release?.();
    expect((await waiting).done).toBe(false);
    await pieces.return?.();
  });

  test("takes another buffer back in the place of one that was transferred", async () => {
    const bytes = noise(30 * MIB);
    writeFileSync(at("moved"), bytes);
    const source = await openImage({ path: at("moved") });
    const parts: Buffer[] = [];
    for await (const piece of source.pieces(new AbortController().signal)) {
      if (!("bytes" in piece)) continue;
      parts.push(Buffer.from(piece.bytes));
      piece.release?.(
        new Uint8Array(structuredClone(piece.bytes.buffer, { transfer: [piece.bytes.buffer as ArrayBuffer] })),
      );
    }
    expect(Buffer.compare(Buffer.concat(parts), bytes)).toBe(0);
    expect(Buffer.compare(await source.plainDigest!(), sha256(bytes))).toBe(0);
  });

  test("ends with the signal's reason, even while it waits for buffers", async () => {
    writeFileSync(at("stopped"), noise(20 * MIB));
    const abort = new AbortController();
    const source = await openImage({ path: at("stopped") });
    const run = (async () => {
      for await (const _ of source.pieces(abort.signal))
        setTimeout(() => abort.abort(new CancelledError("by hand")), 50);
    })();
    await expect(run).rejects.toThrow("by hand");
    await expect(source.plainDigest!()).rejects.toThrow(CancelledError);
  });
});

describe("a file that changes", () => {
  const changes: [string, (path: string) => void][] = [
    ["shrinks", (path) => truncateSync(path, 5 * MIB)],
    ["grows", (path) => appendFileSync(path, "x")],
    ["is written to", (path) => utimesSync(path, 1_000, 1_000)],
  ];
  test.each(changes)("is told when it %s while it is read", async (_, change) => {
    const path = at("changing");
    writeFileSync(path, noise(20 * MIB));
    const source = await openImage({ path });
    let first = true;
    const error = await failure(
      readAll(source, () => {
        if (first) change(path);
        first = false;
      }),
    );
    expect(error.code).toBe("input");
    expect(error.message).toContain(`"${path}": it changed while it was read`);
  });

  test.each(changes)("is told when it %s before it is read", async (_, change) => {
    const path = at("changed");
    writeFileSync(path, noise(6 * MIB));
    const source = await openImage({ path });
    change(path);
    expect((await failure(readAll(source))).message).toContain("it changed");
  });
});

describe("what can't be read", () => {
  test("is named with the remedy", async () => {
    expect((await failure(openImage({ path: at("nothing") }))).message).toBe(
      `Cannot read "${at("nothing")}": no such file or directory`,
    );
    mkdirSync(at("folder"));
    expect((await failure(openImage({ path: at("folder") }))).message).toContain(
      "is a directory; name the files in it",
    );
    expect((await failure(openImage({ path: "/dev/null" }))).message).toContain("neither a file nor a block device");
    symlinkSync("round", at("round"));
    expect((await failure(openImage({ path: at("round") }))).message).toContain("too many symbolic links");
  });

  test("includes pipes and sockets, without waiting for anybody", async () => {
    execFileSync("mkfifo", [at("pipe")]);
    expect((await failure(openImage({ path: at("pipe") }))).message).toContain("standard input");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(at("socket"), resolve));
    expect((await failure(openImage({ path: at("socket") }))).message).toContain("qmp:");
    await new Promise((resolve) => server.close(resolve));
  });

  test("includes a file whose name the destination can't have", async () => {
    writeFileSync(at("a\nb"), "x");
    expect((await failure(openImage({ path: at("a\nb") }))).code).toBe("refused");
    expect((await openImage({ path: at("a\nb"), name: "ab" })).info.name).toBe("ab");
    expect(statSync(at("a\nb")).size).toBe(1);
  });
});
