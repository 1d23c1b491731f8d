import { describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { IntegrityError } from "../../../../core/errors.ts";
import { lz4Decoder, lz4Encoder } from "../../../../core/wire/codec/lz4.ts";
import { noneDecoder, noneEncoder } from "../../../../core/wire/codec/none.ts";
import { zstdDecoder, zstdEncoder } from "../../../../core/wire/codec/zstd.ts";
import { codecCompliance, decode, encodeAll, noise, outcome } from "./compliance.ts";

const WINDOW = 20;
const zstd = (windowLog = WINDOW) => zstdEncoder({ level: 3, windowLog });

codecCompliance("none", { encoder: () => noneEncoder, decoder: () => noneDecoder });
codecCompliance("lz4", { encoder: () => lz4Encoder, decoder: () => lz4Decoder });
codecCompliance("zstd", { encoder: zstd, decoder: () => zstdDecoder(WINDOW) });
codecCompliance("zstd with a long window", { encoder: () => zstd(24), decoder: () => zstdDecoder(24) });

describe("zstd", () => {
  test("what came before is in the window", async () => {
    const page = noise(8192, 5);
    const [first, second] = await encodeAll(zstd(), [page, page]);
    expect(first!.length).toBeGreaterThan(8000);
    expect(second!.length).toBeLessThan(100);
    // So it can't be decoded alone.
    const to = zstdDecoder(WINDOW);
    const { error, bytes } = await decode(to, second!, page.length);
    if (error === undefined) expect(Buffer.compare(bytes, page)).not.toBe(0);
    to.close();
  });

  test("a larger window than was negotiated is refused", async () => {
    for (const [used, allowed] of [
      [21, 20],
      [27, 20],
      [27, 26],
    ] as const) {
      const [encoded] = await encodeAll(zstd(used), [Buffer.from("hello")]);
      const to = zstdDecoder(allowed);
      expect((await decode(to, encoded!, 5)).error).toBeInstanceOf(IntegrityError);
      to.close();
      const wider = zstdDecoder(used);
      expect((await decode(wider, encoded!, 5)).error).toBe(undefined);
      wider.close();
    }
  });

  test("a piece is not taken for whole because the beginning fits", async () => {
    // Output comes in parts of 128 KiB: the first fills the target exactly.
    const [encoded] = await encodeAll(zstd(), [noise((1 << 17) + 50, 6)]);
    const to = zstdDecoder(WINDOW);
    expect((await decode(to, encoded!, 1 << 17)).error).toBeInstanceOf(IntegrityError);
    to.close();
  });

  test("a stream that failed stays failed", async () => {
    const [encoded] = await encodeAll(zstd(), [Buffer.from("hello")]);
    const to = zstdDecoder(WINDOW);
    expect((await decode(to, Buffer.from("this is not zstd"), 5)).error).toBeInstanceOf(IntegrityError);
    expect((await decode(to, encoded!, 5)).error).toBeInstanceOf(IntegrityError);
    to.close();
  });

  test("an encoder that was closed says so instead of giving nothing", async () => {
    const from = zstd();
    await from.encode(Buffer.from("hello"));
    from.close();
    for (const ms of [0, 20]) {
      await sleep(ms);
      expect(await outcome(from.encode(Buffer.from("hello")))).toHaveProperty("code", "bug");
    }
  });

  test("empty frames and frames to be skipped are not content", async () => {
    const skipped = Buffer.concat([Buffer.from("502a4d1804000000", "hex"), Buffer.from("skip")]);
    const empty = Buffer.from("28b52ffd0058010000", "hex");
    for (const bytes of [skipped, empty, Buffer.concat([skipped, empty, skipped])]) {
      const to = zstdDecoder(WINDOW);
      expect((await decode(to, bytes, 5)).error).toBeInstanceOf(IntegrityError);
      to.close();
    }
  });
});

describe("lz4", () => {
  test("a forged length is refused before anything is allocated", async () => {
    const before = process.memoryUsage().rss;
    const [block] = await encodeAll(lz4Encoder, [Buffer.from("hello")]);
    for (const claimed of [0, 4, 6, 1 << 30, 0x7fff_ffff, 0xffff_ffff]) {
      block!.writeUInt32LE(claimed);
      const { error } = await decode(lz4Decoder, block!, 5);
      expect(error).toBeInstanceOf(IntegrityError);
      expect((error as Error).message).toContain(`claims ${claimed} bytes`);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(256 << 20);
  });

  test("a block without its length is refused", async () => {
    for (const length of [0, 1, 3]) {
      expect((await decode(lz4Decoder, Buffer.alloc(length), 5)).error).toBeInstanceOf(IntegrityError);
    }
  });

  test("damaged blocks leave it able to work, and take no memory for good", async () => {
    const page = Buffer.concat([noise(2048, 7), Buffer.alloc(2048, 7)]);
    const [block] = await encodeAll(lz4Encoder, [page]);
    for (let at = 4; at < 2000; at++) {
      const changed = Buffer.from(block!);
      changed[at % changed.length]! ^= 0xff;
      await lz4Decoder.decode(changed, Buffer.alloc(page.length)).catch((error) => {
        if (!(error instanceof IntegrityError)) throw error;
      });
    }
    const { error, bytes } = await decode(lz4Decoder, block!, page.length);
    expect(error).toBe(undefined);
    expect(Buffer.compare(bytes, page)).toBe(0);
  });
});
