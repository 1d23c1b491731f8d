import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import type { Piece } from "../../../core/machines/machine.ts";
import { segmentFormats } from "../../../core/segment/registry.ts";
import { ContentSet } from "../../../core/site/content-set.ts";
import { scanningTarget } from "../../../core/site/scanning-target.ts";
import { compareTables, sumTallies, type Tally, tallyContents } from "../../../core/site/sharing.ts";
import { cut, lengths, plain } from "../engine/contents.ts";
import { digestOf, PAGE, pages, qemuPages, range, stream, ZERO } from "./streams.ts";

function tally(format: string, bytes: Buffer): Promise<Tally> {
  return tallyContents(segmentFormats.get(format)!.create(), stream(format, bytes).pieces());
}

const inPages = (...counts: number[]) => counts.map((count) => count * PAGE);

describe("a tally", () => {
  test("counts what an image is made of", async () => {
    const bytes = Buffer.concat([pages(1, ZERO, 2, 1, 1, ZERO, ZERO, 3), Buffer.from("an end")]);
    const { bytes: found, table } = await tally("raw", bytes);
    const [plain, zero, duplicate, distinct] = inPages(8, 3, 2, 3) as [number, number, number, number];
    expect(found).toEqual({ plain: plain + 6, zero, duplicate, distinct, literal: 6 });
    for (const n of [1, 2, 3]) expect(table.has(digestOf(n), 0)).toBe(true);
    expect([table.count, table.has(digestOf(4), 0)]).toEqual([3, false]);
  });

  test("counts pages of a stream wherever they lie", async () => {
    const bytes = qemuPages([
      [0, 1],
      [5, 2],
      [9, 1],
    ]);
    const { bytes: found } = await tally("qemu", bytes);
    const [duplicate, distinct] = inPages(1, 2) as [number, number];
    expect(found).toEqual({ plain: bytes.length, zero: 0, duplicate, distinct, literal: bytes.length - 3 * PAGE });
  });

  test("of bytes has no contents", async () => {
    const bytes = pages(...range(0, 600));
    const { bytes: found, table } = await tally("bytes", bytes);
    expect([found!.literal, table.count]).toEqual([bytes.length, 0]);
  });

  test("is that of any stream, however it arrives", async () => {
    const property = fc.asyncProperty(plain, lengths, async ({ format, bytes }, sizes) => {
      const pieces = async function* (): AsyncGenerator<Piece> {
        for (const piece of cut(bytes, sizes, true))
          yield typeof piece === "number" ? { zeros: piece } : { bytes: new Uint8Array(piece) };
      };
      const { bytes: found, table } = await tallyContents(segmentFormats.get(format)!.create(), pieces());
      const distinct = new Set<string>();
      const counted = { chunks: 0, zero: 0, literal: 0 };
      const segmenter = segmentFormats.get(format)!.create();
      const sink = {
        chunk(from: Uint8Array, start: number) {
          counted.chunks++;
          distinct.add(
            createHash("sha256")
              .update(from.subarray(start, start + PAGE))
              .digest("hex"),
          );
        },
        zero(length: number) {
          counted.zero += length;
        },
        literal(_: Uint8Array, start: number, end: number) {
          counted.literal += end - start;
        },
      };
      segmenter.push(bytes, 0, bytes.length, sink);
      segmenter.flush(sink);
      expect(table.count).toBe(distinct.size);
      for (const digest of distinct) expect(table.has(Buffer.from(digest, "hex"), 0)).toBe(true);
      const { zero, literal, chunks } = counted;
      const duplicate = (chunks - distinct.size) * PAGE;
      // A hole is zeros, also where the same bytes would be in no page.
      expect(found!.zero + found!.literal).toBe(zero + literal);
      expect([found!.plain, found!.duplicate]).toEqual([bytes.length, duplicate]);
    });
    await fc.assert(property, { numRuns: 40 });
  }, 60_000);
});

test("a set has each digest once, however many there are", () => {
  const set = new ContentSet();
  const digest = Buffer.alloc(32);
  const put = (n: number) => {
    digest.writeUInt32BE(Math.imul(n, 0x9e37_79b1) >>> 0, 0);
    digest.writeUInt32BE(n, 16);
  };
  // Several times what is sorted in at once, a third of them twice, and some again and again.
  for (let n = 0; n < 150_000; n++) {
    put(n % 100_000);
    set.add(digest, 0);
    if (n % 7 === 0) {
      put(5);
      set.add(digest, 0);
    }
  }
  const table = set.table();
  expect([table.count, set.table().count]).toEqual([100_000, 100_000]);
  for (let n = 0; n < 100_003; n += 997) {
    put(n);
    expect(table.has(digest, 0)).toBe(n < 100_000);
  }
});

describe("a comparison", () => {
  test("counts what each pair shares, and all together", async () => {
    const tallies = await Promise.all([
      tally("raw", pages(1, 2, 3, 4, 4, ZERO)),
      tally("raw", pages(ZERO, 3, 4, 5)),
      tally("raw", pages(9)),
      tally(
        "qemu",
        qemuPages([
          [3, 4],
          [4, 9],
          [5, 9],
        ]),
      ),
    ]);
    const { distinct, shared } = compareTables(tallies.map(({ table }) => table));
    expect(distinct).toBe(6);
    expect(shared.map((row) => [...row])).toEqual([
      [4, 2, 0, 1],
      [2, 3, 0, 1],
      [0, 0, 1, 1],
      [1, 1, 1, 2],
    ]);
    const sum = sumTallies(tallies, distinct)!;
    expect([sum.zero, sum.distinct, sum.duplicate]).toEqual(inPages(2, 6, 6));
    expect(sum.plain).toBe(sum.zero + sum.distinct + sum.duplicate + sum.literal);
    expect(sumTallies([...tallies, { table: tallies[0]!.table, bytes: undefined }], distinct)).toBeUndefined();
  });
});

describe("a target that reads", () => {
  const info = { name: "disk", format: "raw" };

  test("gives what it is given, and is done when its reader is", async () => {
    const parts: (string | number)[] = [];
    const target = scanningTarget(async (_, pieces) => {
      for await (const piece of pieces)
        parts.push("zeros" in piece ? piece.zeros : Buffer.from(piece.bytes).toString());
    });
    const sink = await target.open(info);
    await sink.write({ bytes: Buffer.from("one") });
    await sink.zeros(5);
    await sink.write({ bytes: Buffer.from("two") });
    await sink.finish();
    expect(parts).toEqual(["one", 5, "two"]);
  });

  test("rejects with what its reader rejects with", async () => {
    const early = await scanningTarget(() => Promise.reject(new Error("not begun"))).open(info);
    await expect(early.write({ bytes: Buffer.from("x") })).rejects.toThrow("not begun");
    const late = await scanningTarget(async (_, pieces) => {
      for await (const _piece of pieces) throw new Error("in the middle");
    }).open(info);
    await late.write({ bytes: Buffer.from("x") }).catch(() => {});
    await expect(late.finish()).rejects.toThrow("in the middle");
  });

  test("tells its reader that the stream was given up", async () => {
    let heard: unknown;
    const target = scanningTarget(async (_, pieces) => {
      try {
        for await (const _piece of pieces);
      } catch (error) {
        heard = error;
        throw error;
      }
    });
    const sink = await target.open(info);
    await sink.write({ bytes: Buffer.from("x") });
    await sink.abort();
    expect(heard).toBeInstanceOf(Error);
  });
});
