import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { nbdReader } from "../../../../core/machines/nbd/reader.ts";
import {
  DISCONNECT,
  exportInfo,
  extentChunk,
  type FakeOptions,
  type NbdRequest,
  optionReply,
  READ,
  STATUS,
} from "../../../support/nbd-server.ts";
import { within } from "../../../support/session.ts";
import { noise } from "../image/files.ts";
import { openPair } from "./connect.ts";

const PAGE = 4096;
const MIB = 1 << 20;

/** Reads all that a server has, as the pieces of a source are read. */
async function readDisk(options: FakeOptions) {
  await using pair = await openPair(options);
  const reader = nbdReader(pair.client, { finish: async () => {}, close: async () => {} });
  const parts: Buffer[] = [];
  const holes: [number, number][] = [];
  const buffer = new Uint8Array(MIB);
  let size = 0;
  for (;;) {
    const zeros = await reader.hole();
    if (zeros > 0) holes.push([size, zeros]);
    else {
      const length = await reader.read(buffer.fill(0xee));
      if (length === 0) break;
      parts.push(Buffer.from(buffer.subarray(0, length)));
      size += length;
      continue;
    }
    size += zeros;
    if (zeros < 100 * MIB) parts.push(Buffer.alloc(zeros));
  }
  return { bytes: Buffer.concat(parts), size, holes, requests: pair.server.requests };
}

const ofCommand = (requests: readonly NbdRequest[], wanted: number) =>
  requests.filter(({ command }) => command === wanted);

describe("a disk", () => {
  test("of any layout comes as it is, whatever the server's writes and words, and its holes are not read", async () => {
    const extent = fc.record({
      length: fc.oneof(
        fc.integer({ min: 1, max: 20_000 }),
        fc.integer({ min: 1, max: 50 }).map((n) => n * 32_768),
      ),
      kind: fc.constantFrom("bytes", "zeros", "hole"),
      seed: fc.nat(1000),
    });
    const cases = fc.record({
      layout: fc.array(extent, { maxLength: 8 }),
      split: fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 4 }),
      backwards: fc.boolean(),
      /** How much of a question for extents the server answers. */
      share: fc.integer({ min: 1, max: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ layout, split, backwards, share }) => {
        const disk = Buffer.concat(
          layout.map(({ length, kind, seed }) => (kind === "bytes" ? noise(length, seed + 1) : Buffer.alloc(length))),
        );
        let size = 0;
        const extents = layout.map(({ length, kind }) => {
          size += length;
          return { start: size - length, end: size, flags: kind === "hole" ? 3 : 0 };
        });
        const request = ({ command, handle, offset, length }: NbdRequest) => {
          if (command !== STATUS) return undefined;
          const stop = offset + Math.ceil(length / share);
          const within = extents.filter(({ start, end }) => start < stop && end > offset);
          const part = ({ start, end, flags }: (typeof extents)[number]) =>
            [Math.min(end, stop) - Math.max(start, offset), flags] as const;
          return extentChunk(handle, within.map(part));
        };
        const got = await within(readDisk({ bytes: disk, split: [...split, 50_000], backwards, request }));
        expect(Buffer.compare(got.bytes, disk)).toBe(0);
        for (const [start, length] of got.holes) {
          const overlaps = ofCommand(got.requests, READ).filter(
            (r) => r.offset < start + length && r.offset + r.length > start,
          );
          expect(overlaps).toEqual([]);
        }
        // A server that answers in full has each hole of 64 KiB skipped, but for the pages that it cuts.
        if (share === 1) {
          let least = 0;
          for (const { start, end, flags } of extents) {
            const pages = Math.floor(end / PAGE) - Math.ceil(start / PAGE);
            if (flags === 3 && pages >= 16) least += pages * PAGE;
          }
          expect(got.holes.reduce((sum, [, length]) => sum + length, 0)).toBeGreaterThanOrEqual(least);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("is read by parts that are asked for together", async () => {
    const bytes = noise(3 * MIB);
    let open = 0;
    let most = 0;
    const got = await readDisk({
      bytes,
      request({ command }) {
        if (command === READ) most = Math.max(most, ++open);
        if (open === 4) open = 0;
        return undefined;
      },
    });
    expect(Buffer.compare(got.bytes, bytes)).toBe(0);
    expect(ofCommand(got.requests, READ).map(({ length }) => length)).toEqual(Array(12).fill(MIB / 4));
    expect(most).toBe(4);
  });

  test("of 10 TiB that is one hole is not read", async () => {
    const size = 10 * 2 ** 40 + 512;
    const go = Buffer.concat([exportInfo(size), optionReply(7, 1)]);
    const got = await within(
      readDisk({
        bytes: Buffer.alloc(0),
        option: (option) => (option === 7 ? go : undefined),
        request: ({ command, handle, length }) => (command === STATUS ? extentChunk(handle, [[length, 3]]) : undefined),
      }),
    );
    expect(got.size).toBe(size);
    expect(ofCommand(got.requests, READ)).toEqual([]);
  });

  test("without a byte is one", async () => {
    const got = await readDisk({ bytes: Buffer.alloc(0) });
    expect([got.size, got.requests.map(({ command }) => command)]).toEqual([0, [DISCONNECT]]);
  });
});
