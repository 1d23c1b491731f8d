import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { crc32, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { PageWorker } from "../../../core/content/page-worker.ts";
import { packedHost } from "../../../core/content/worker-host.ts";
import { IntegrityError } from "../../../core/errors.ts";
import {
  decodeGroup,
  decodeGroupHeader,
  encodeGroup,
  GROUP_HEADER,
  groupLength,
  isGroupBody,
  isGroupHead,
  MAX_GROUP_CONTENTS,
} from "../../../core/store/group.ts";
import { contents, DIGEST, failure, flipped, PAGE, range } from "./contents.ts";

const workers = new Map<string, PageWorker>();
beforeAll(async () => {
  await packedHost.enter();
  workers.set("on another thread", new PageWorker(packedHost));
  await Promise.resolve();
});
afterAll(() => {
  for (const worker of workers.values()) worker.close();
  packedHost.leave();
});

async function encoded(numbers: readonly number[], level = 1): Promise<Buffer> {
  const { digests, pages } = contents(numbers);
  return Buffer.concat(await encodeGroup(digests, pages, level));
}

/** A group whose checksums are right, whatever it says. */
function forged(fields: { count: number; codec: number; stored: Uint8Array; length?: number }): Buffer {
  const { count, codec, stored, length = stored.length } = fields;
  const bytes = Buffer.concat([Buffer.alloc(GROUP_HEADER), Buffer.alloc(Math.min(count, 4) * DIGEST, 7), stored]);
  bytes.write("SGRP", 0, "latin1");
  bytes.writeUInt32LE(count, 4);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt8(codec, 12);
  bytes.writeUInt32LE(crc32(stored), 16);
  const digests = bytes.subarray(GROUP_HEADER, GROUP_HEADER + Math.min(count, 4) * DIGEST);
  bytes.writeUInt32LE(crc32(digests, crc32(bytes.subarray(0, 20))), 20);
  return bytes;
}

function storedOf(bytes: Buffer, count: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.subarray(GROUP_HEADER + count * DIGEST));
}

/** Whether anything of a group is taken for right. */
function accepted(bytes: Buffer): boolean {
  const header = decodeGroupHeader(bytes, 0);
  if (!header || groupLength(header) > bytes.length || !isGroupHead(bytes, 0, header)) return false;
  return isGroupBody(header, bytes.subarray(GROUP_HEADER + header.count * DIGEST, groupLength(header)));
}

describe("a group", () => {
  test("comes to its contents again, and to their digests", async () => {
    const numbers = fc.array(fc.nat(50), { minLength: 1, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(numbers, fc.constantFrom(1, 3, 12), fc.nat(100), async (numbers, level, before) => {
        const bytes = Buffer.concat([Buffer.alloc(before, 0x53), await encoded(numbers, level), Buffer.alloc(7)]);
        const header = decodeGroupHeader(bytes, before)!;
        expect(header.count).toBe(numbers.length);
        expect(before + groupLength(header)).toBe(bytes.length - 7);
        expect(isGroupHead(bytes, before, header)).toBe(true);
        const stored = storedOf(bytes.subarray(before, -7), header.count);
        expect(isGroupBody(header, stored)).toBe(true);
        const worker = new PageWorker(packedHost);
        const { pages, digests } = await decodeGroup(header, stored, worker);
        worker.close();
        const { digests: right, pages: plain } = contents(numbers);
        expect(Buffer.compare(pages, plain)).toBe(0);
        expect(Buffer.compare(digests, right)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test("holds what no codec makes smaller as it is", async () => {
    const noise = await encoded([1, 3, 5]);
    expect(noise.length).toBe(GROUP_HEADER + 3 * (DIGEST + PAGE));
    expect(noise.readUInt8(12)).toBe(0);
    const text = await encoded([0, 2, 4]);
    expect(text.length).toBeLessThan(GROUP_HEADER + 3 * DIGEST + 400);
    expect(text.readUInt8(12)).toBe(1);
  });

  test("may have as many contents as a repack puts into it", async () => {
    const numbers = range(0, MAX_GROUP_CONTENTS, 2);
    const bytes = await encoded(numbers, 3);
    expect(accepted(bytes)).toBe(true);
    expect(decodeGroupHeader(bytes, 0)!.count).toBe(1024);
  });

  test.each([
    ["text", [0]],
    ["noise", [1]],
    ["both", [2, 3]],
  ] as const)("of which one byte is another is not taken for right: %s", async (_, numbers) => {
    const bytes = await encoded(numbers);
    expect(accepted(bytes)).toBe(true);
    for (let at = 0; at < bytes.length; at++) {
      if (accepted(flipped(bytes, at, 1 << (at % 8)))) throw new Error(`byte ${at} of ${bytes.length}`);
    }
  });

  test("that is cut short is not taken for right", async () => {
    const bytes = await encoded([0, 1]);
    for (let length = 0; length < bytes.length; length += length < 200 ? 1 : 61) {
      if (accepted(bytes.subarray(0, length))) throw new Error(`${length} of ${bytes.length} bytes`);
    }
  });
});

describe("a header", () => {
  const page = Buffer.alloc(PAGE, 9);
  test.each([
    ["no contents", { count: 0, codec: 1, stored: Buffer.alloc(1) }],
    ["more contents than a group may have", { count: 1025, codec: 1, stored: Buffer.alloc(1) }],
    ["the most contents that it can name", { count: 2 ** 32 - 1, codec: 1, stored: Buffer.alloc(1) }],
    ["nothing stored", { count: 1, codec: 1, stored: Buffer.alloc(0) }],
    ["more stored than the contents have", { count: 1, codec: 1, stored: page, length: PAGE + 1 }],
    ["the most stored that it can name", { count: 1024, codec: 1, stored: page, length: 2 ** 32 - 1 }],
    ["less stored than contents as they are have", { count: 2, codec: 0, stored: page }],
    ["a codec that there is not", { count: 1, codec: 2, stored: page }],
    ["another codec that there is not", { count: 1, codec: 255, stored: page }],
  ])("that says this is none: %s", (_, fields) => {
    expect(decodeGroupHeader(forged(fields), 0)).toBe(undefined);
  });

  test("is forged rightly here: what is within the bounds is one", () => {
    for (const fields of [
      { count: 1, codec: 0, stored: page },
      { count: 1, codec: 1, stored: page },
      { count: 4, codec: 1, stored: Buffer.alloc(1) },
    ]) {
      expect(accepted(forged(fields))).toBe(true);
    }
  });

  test("that any bytes make up asks for no more than a group has", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), (fields) => {
        const bytes = Buffer.concat([Buffer.from("SGRP"), fields]);
        const header = decodeGroupHeader(bytes, 0);
        if (header && groupLength(header) > GROUP_HEADER + 1024 * (DIGEST + PAGE)) throw new Error("it is too long");
      }),
      { numRuns: 2000 },
    );
  });
});

describe("contents whose checksum is right, and that are none", () => {
  const zeros = (pages: number) => zstdCompressSync(Buffer.alloc(pages * PAGE));
  const cases: [string, number, Uint8Array][] = [
    ["fewer pages than it says", 3, zeros(2)],
    ["more pages than it says", 3, zeros(4)],
    ["far more: a bomb", 4, zeros(1 << 14)],
    ["a page and a byte", 1, zstdCompressSync(Buffer.alloc(PAGE + 1))],
    ["no frame at all", 2, Buffer.alloc(PAGE, 0x5a)],
    ["half a frame", 4, zstdCompressSync(contents([1, 3, 5, 7]).pages).subarray(0, 9000)],
  ];
  test.each(cases)("are refused: %s", async (_, count, stored) => {
    const header = decodeGroupHeader(forged({ count, codec: 1, stored }), 0)!;
    const fresh = new PageWorker(packedHost);
    for (const worker of [fresh, workers.get("on another thread")!]) {
      const error = await failure(decodeGroup(header, new Uint8Array(stored), worker));
      expect(error).toBeInstanceOf(IntegrityError);
      // The next ones are read all the same.
      const right = forged({ count: 2, codec: 1, stored: zeros(2) });
      const { pages } = await decodeGroup(decodeGroupHeader(right, 0)!, storedOf(right, 2), worker);
      expect(Buffer.compare(pages, Buffer.alloc(2 * PAGE))).toBe(0);
    }
    fresh.close();
  });

  test("other contents than the digests say are told by theirs", async () => {
    const { digests } = contents([0, 2]);
    const other = contents([0, 4]);
    const bytes = Buffer.concat(await encodeGroup(digests, other.pages, 1));
    const found = await decodeGroup(
      decodeGroupHeader(bytes, 0)!,
      storedOf(bytes, 2),
      workers.get("on another thread")!,
    );
    expect(Buffer.compare(found.digests, other.digests)).toBe(0);
  });
});
