import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { ShrinkerError } from "../../../core/errors.ts";
import { PrefixTable, PrefixTableBuilder } from "../../../core/index/prefix-table.ts";
import { createHold, heldBy, listHolds, releaseHold } from "../../../core/store/holds.ts";
import { type Layout, openLayout } from "../../../core/store/layout.ts";

let dir = "";
let layout: Layout;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "shrinker-holds-"));
  layout = await openLayout(dir, "test", true);
});
afterEach(() => rmSync(dir, { recursive: true }));

const digest = (n: number) => createHash("sha256").update(String(n)).digest();

function table(...numbers: number[]): PrefixTable {
  const builder = new PrefixTableBuilder(0);
  for (const number of numbers) builder.add(digest(number), 0);
  return builder.build();
}

async function refusal(work: Promise<unknown>): Promise<ShrinkerError> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  expect(error.message).not.toContain("\n");
  return error;
}

const path = (name: string) => join(layout.holds, `${name}.hold`);
const change = (name: string, change: (bytes: Buffer) => Uint8Array) =>
  writeFileSync(path(name), change(readFileSync(path(name))));

describe("holds", () => {
  test("say until when they pin which contents", async () => {
    await createHold(layout, { name: "b", created: 1000, expires: 5000, table: table(1, 2, 3) });
    await createHold(layout, { name: "a site's index", created: 2000.4, expires: 2000.6, table: table() });
    expect(await listHolds(layout)).toEqual([
      { name: "a site's index", created: 2000, expires: 2001, contents: 0, error: undefined },
      { name: "b", created: 1000, expires: 5000, contents: 3, error: undefined },
    ]);
    const held = await heldBy(layout, "b");
    expect([1, 2, 3, 4].map((n) => held.has(digest(n), 0))).toEqual([true, true, true, false]);
    expect((await heldBy(layout, "a site's index")).count).toBe(0);
    await releaseHold(layout, "b");
    expect((await listHolds(layout)).map(({ name }) => name)).toEqual(["a site's index"]);
    expect((await refusal(releaseHold(layout, "b"))).code).toBe("input");
    expect((await refusal(heldBy(layout, "b"))).code).toBe("input");
  });

  test("come back as they were written", () =>
    fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.nat(10_000), { maxLength: 300 }),
        fc.nat(8.64e15),
        fc.nat(8.64e15),
        async (numbers, created, expires) => {
          const written = table(...numbers);
          await createHold(layout, { name: "x", created, expires, table: written });
          const held = await heldBy(layout, "x");
          expect(Buffer.compare(held.records, written.records)).toBe(0);
          expect(await listHolds(layout)).toMatchObject([{ created, expires, contents: numbers.length }]);
          await releaseHold(layout, "x");
        },
      ),
      { numRuns: 30 },
    ));

  test("are their owner's alone, and leave nothing else", async () => {
    const mask = process.umask(0);
    try {
      await createHold(layout, { name: "x", created: 0, expires: 1, table: table(1) });
    } finally {
      process.umask(mask);
    }
    expect(statSync(path("x")).mode & 0o777).toBe(0o600);
    expect(readdirSync(layout.holds)).toEqual(["x.hold"]);
  });

  test("are not replaced before they have expired", async () => {
    await createHold(layout, { name: "x", created: 0, expires: 100, table: table(1) });
    expect((await refusal(createHold(layout, { name: "x", created: 99, expires: 200, table: table(2) }))).code).toBe(
      "exists",
    );
    expect((await heldBy(layout, "x")).has(digest(1), 0)).toBe(true);
    await createHold(layout, { name: "x", created: 100, expires: 200, table: table(2) });
    expect((await heldBy(layout, "x")).has(digest(2), 0)).toBe(true);
    // Of one that is damaged nobody knows until when it is meant to pin.
    change("x", (bytes) => bytes.subarray(1));
    expect((await refusal(createHold(layout, { name: "x", created: 1e15, expires: 2e15, table: table(3) }))).code).toBe(
      "exists",
    );
    expect(readdirSync(layout.holds)).toEqual(["x.hold"]);
  });

  test.each(["", ".", "..", ".x", "a/b", "a\0b", "a\nb", "\u202ea", "é".repeat(101)])(
    "may not be called %j",
    async (name) => {
      const error = await refusal(createHold(layout, { name, created: 0, expires: 1, table: table(1) }));
      expect(error.code).toBe("refused");
      expect(error.message).toContain("A hold can't be called");
      expect((await refusal(releaseHold(layout, name))).code).toBe("refused");
      expect(readdirSync(layout.holds)).toEqual([]);
    },
  );

  test("may be called what has 200 bytes", async () => {
    const name = "é".repeat(100);
    await createHold(layout, { name, created: 0, expires: 1, table: table(1) });
    expect((await listHolds(layout)).map(({ name }) => name)).toEqual([name]);
    expect((await refusal(releaseHold(layout, `${name}x`))).code).toBe("refused");
  });

  test("hold digests, not places", async () => {
    const places = new PrefixTable(new Uint8Array(0), 8);
    await expect(createHold(layout, { name: "x", created: 0, expires: 1, table: places })).rejects.toThrow(RangeError);
  });

  test("that are damaged anywhere are told, and never expire", async () => {
    await createHold(layout, { name: "x", created: 0, expires: 1, table: table(1, 2, 3) });
    const whole = readFileSync(path("x"));
    for (let at = 0; at < whole.length; at++) {
      const wrong = Buffer.from(whole);
      wrong[at]! ^= 1 << (at % 8);
      writeFileSync(path("x"), wrong);
      const error = await refusal(heldBy(layout, "x"));
      expect(error.code).toBe("integrity");
      const [hold] = await listHolds(layout);
      // The list reads the head alone.
      if (at < 40) expect(hold).toMatchObject({ expires: Number.POSITIVE_INFINITY, error: { code: "integrity" } });
      else expect(hold).toMatchObject({ expires: 1, error: undefined });
    }
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(path("x"), whole.subarray(0, length));
      expect((await refusal(heldBy(layout, "x"))).code).toBe("integrity");
      expect((await listHolds(layout))[0]!.error?.code).toBe("integrity");
    }
    writeFileSync(path("x"), Buffer.concat([whole, Buffer.alloc(20)]));
    expect((await refusal(heldBy(layout, "x"))).code).toBe("integrity");
  });

  test("that are out of order, or of a time that there is not, are damaged", async () => {
    await createHold(layout, { name: "x", created: 0, expires: 1, table: table(1, 2) });
    const seal = (bytes: Buffer) => {
      bytes.writeUInt32LE(crc32(bytes.subarray(40)), 32);
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 36)), 36);
      return bytes;
    };
    const whole = readFileSync(path("x"));
    change("x", (bytes) => seal(Buffer.concat([bytes.subarray(0, 40), bytes.subarray(60), bytes.subarray(40, 60)])));
    expect((await refusal(heldBy(layout, "x"))).code).toBe("integrity");
    writeFileSync(path("x"), whole);
    change("x", (bytes) => {
      bytes.writeBigUInt64LE(2n ** 63n, 24);
      return seal(bytes);
    });
    expect((await listHolds(layout))[0]!.error?.code).toBe("integrity");
  });

  test("of more contents than memory holds are refused as input, though the file be as long", async () => {
    await createHold(layout, { name: "x", created: 0, expires: 1, table: table(1) });
    change("x", (bytes) => {
      bytes.writeUInt32LE(2 ** 32 - 1, 12);
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 36)), 36);
      return bytes;
    });
    truncateSync(path("x"), 40 + (2 ** 32 - 1) * 20);
    const error = await refusal(heldBy(layout, "x"));
    expect([error.code, error.message.includes("memory")]).toEqual(["input", true]);
  });

  test("of another version are refused", async () => {
    await createHold(layout, { name: "x", created: 0, expires: 1, table: table(1) });
    change("x", (bytes) => {
      bytes.writeUInt16LE(2, 8);
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 36)), 36);
      return bytes;
    });
    expect((await refusal(heldBy(layout, "x"))).code).toBe("refused");
    expect((await listHolds(layout))[0]!.error?.code).toBe("refused");
  });

  test("other files are none", async () => {
    writeFileSync(join(layout.holds, ".x.hold.0123456789abcdef.shrinker-partial"), "");
    writeFileSync(join(layout.holds, "notes"), "");
    expect(await listHolds(layout)).toEqual([]);
  });
});
