import { afterAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { openImage } from "../../../../core/machines/image/source.ts";
import { standardOutputTarget } from "../../../../core/machines/image/stdout.ts";
import type { Piece } from "../../../../core/machines/machine.ts";
import { folder, noise, readAll, sha256 } from "./files.ts";

const dir = folder();
afterAll(dir.remove);

describe("standard input", () => {
  test.each([0, 1, 7, 511, 512, 513, 100_000, 3_000_000])("gives %d bytes and their digest", async (length) => {
    const bytes = noise(length);
    const stdin = new PassThrough();
    for (let i = 0; i < length; i += 30_000) stdin.write(bytes.slice(i, i + 30_000));
    stdin.end();
    const source = await openImage({ path: "-", stdin });
    expect(source.info).toEqual({ name: "stdin", format: "raw" });
    let pieces = 0;
    expect(Buffer.compare(await readAll(source, () => pieces++), bytes)).toBe(0);
    expect(Buffer.compare(await source.plainDigest!(), sha256(bytes))).toBe(0);
    expect(pieces).toBeLessThan(5 + length / 50_000);
  });

  test("hands out what has come when no more comes for now", async () => {
    const stdin = new PassThrough();
    stdin.write(noise(600, 1));
    const source = await openImage({ path: "-", name: "vm", stdin });
    const pieces = source.pieces(new AbortController().signal)[Symbol.asyncIterator]();
    const first = (await pieces.next()).value as Piece;
    expect("bytes" in first && first.bytes.length).toBe(600);
    stdin.end(noise(10, 2));
    const second = (await pieces.next()).value as Piece;
    expect("bytes" in second && Buffer.compare(second.bytes, noise(10, 2))).toBe(0);
    expect((await pieces.next()).done).toBe(true);
  });

  test("ends with the signal's reason while it waits", async () => {
    const stdin = new PassThrough();
    stdin.write(noise(600));
    const abort = new AbortController();
    const source = await openImage({ path: "-", stdin });
    const run = (async () => {
      for await (const _ of source.pieces(abort.signal)) setTimeout(() => abort.abort(), 10);
    })();
    await expect(run).rejects.toThrow("cancelled");
  });

  test("ends with the signal's reason though the stream keeps its pending read", async () => {
    const never = new Promise<IteratorResult<Uint8Array>>(() => {});
    const steps = [Promise.resolve({ done: false, value: noise(600) }), never];
    const stdin = { [Symbol.asyncIterator]: () => ({ next: () => steps.shift() ?? never }), destroy() {} };
    const source = await openImage({ path: "-", stdin });
    const abort = new AbortController();
    const run = (async () => {
      for await (const _ of source.pieces(abort.signal)) setTimeout(() => abort.abort(), 10);
    })();
    await expect(run).rejects.toThrow("cancelled");
  }, 5_000);

  test("is the process's own, and standard output too, and the process ends", async () => {
    const image = new URL("../../../../core/machines/image/", import.meta.url).href;
    const script = `
      const { openImage } = await import("${image}source.ts");
      const { standardOutputTarget } = await import("${image}stdout.ts");
      const source = await openImage({ path: "-" });
      const sink = await standardOutputTarget().open(source.info);
      for await (const piece of source.pieces(new AbortController().signal)) await sink.write(piece);
      await sink.finish();
      if (Buffer.compare(await sink.plainDigest(), await source.plainDigest()) !== 0) throw new Error("digests differ");
      await sink.commit();`;
    const file = join(dir.path, "pipe.ts");
    writeFileSync(file, script);
    const child = spawn(process.execPath, [...(process.versions.bun ? ["run"] : ["run", "-A", "--no-check"]), file], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const bytes = noise(5_000_001);
    child.stdin.end(bytes);
    const parts: Buffer[] = [];
    for await (const part of child.stdout) parts.push(part);
    expect(Buffer.compare(Buffer.concat(parts), bytes)).toBe(0);
    expect(child.exitCode ?? (await new Promise((resolve) => child.on("exit", resolve)))).toBe(0);
  }, 30_000);
});

describe("standard output", () => {
  const take = () => {
    const output = new PassThrough();
    const parts: Buffer[] = [];
    // Copied: what was written belongs to its owner again.
    output.on("data", (part) => parts.push(Buffer.from(part)));
    return { output, bytes: () => Buffer.concat(parts) };
  };

  test("gets bytes and zeros in order", async () => {
    const { output, bytes } = take();
    const sink = await standardOutputTarget(output).open({ name: "vm", format: "raw" });
    await sink.write({ bytes: noise(5000) });
    await sink.zeros(3_000_000);
    await sink.write({ bytes: noise(10) });
    await sink.finish();
    const want = Buffer.concat([noise(5000), Buffer.alloc(3_000_000), noise(10)]);
    expect(Buffer.compare(bytes(), want)).toBe(0);
    expect(Buffer.compare(await sink.plainDigest!(), sha256(want))).toBe(0);
  });

  test("takes one stream only, no terminal, and no more than was announced", async () => {
    const target = standardOutputTarget(take().output);
    const sink = await target.open({ name: "a", format: "raw", size: 5 });
    await expect(target.open({ name: "b", format: "raw" })).rejects.toThrow(/one stream only/);
    await expect(sink.write({ bytes: noise(6) })).rejects.toThrow(/more than the 5 bytes/);
    await sink.abort();
    const terminal = Object.assign(new PassThrough(), { isTTY: true });
    await expect(standardOutputTarget(terminal).open({ name: "a", format: "raw" })).rejects.toThrow(/terminal/);
  });

  test("tells that its reader has gone", async () => {
    const { output } = take();
    const sink = await standardOutputTarget(output).open({ name: "a", format: "raw" });
    output.destroy(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
    await expect(sink.write({ bytes: noise(6) })).rejects.toThrow(/standard output/);
    await sink.abort();
  });
});
