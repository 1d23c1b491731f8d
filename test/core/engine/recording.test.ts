import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { CodecPolicy } from "../../../core/engine/codec-policy.ts";
import { ShrinkerError } from "../../../core/errors.ts";
import { CODEC, COLUMN, FRAME, OP } from "../../../core/wire/numbers.ts";
import { qemuStreamBytes } from "../../support/qemu-stream.ts";
import {
  type MemoryTarget,
  memoryTarget,
  record,
  recorder,
  replay,
  send,
  source,
  within,
} from "../../support/session.ts";
import { noise, text } from "./contents.ts";
import { changeBatch, joinFrames, splitFrames } from "./wire.ts";

/** As `zstd`, XORs included, but what is recorded can be changed by hand. */
const uncompressed: CodecPolicy = { compresses: true, fillsWindow: true, wantsXors: true, next: () => CODEC.NONE };

const image = Buffer.concat([text(1), Buffer.alloc(8192), text(2), text(1), Buffer.from("the end")]);
const plain: Record<string, Buffer> = { "a.raw": image, "b.bin": Buffer.from("a few literals") };
const sources = () => [source("a.raw", "raw", [image]), source("b.bin", "bytes", [plain["b.bin"]!])];

/** Receives what is damaged: has to fail with a typed error, and to land nothing that is wrong, or after it failed. */
async function expectRefusal(bytes: Uint8Array, expected: Record<string, Buffer>): Promise<ShrinkerError> {
  const files: MemoryTarget = memoryTarget();
  const error = await replay(bytes, files).then(
    ({ streams }) => streams.find(({ error }) => error)?.error as unknown as ShrinkerError,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  expect(["integrity", "link", "refused"]).toContain(error.code);
  expect(error.message).not.toContain("\n");
  const before = files.all.map(({ ends }) => [...ends]);
  await new Promise((resolve) => setImmediate(resolve));
  expect(files.all.map(({ ends }) => [...ends])).toEqual(before);
  for (const { info, bytes, ends } of files.all) {
    expect(ends.length).toBe(1);
    const whole = expected[info.name]!;
    if (ends[0] === "commit") expect(Buffer.compare(bytes, whole)).toBe(0);
    else expect(Buffer.compare(bytes, whole.subarray(0, bytes.length))).toBe(0);
  }
  return error;
}

describe("a recording", () => {
  test("that is cut short, anywhere, is refused", async () => {
    const bundle = await record(sources());
    for (let end = 0; end < bundle.length; end++)
      expect(await expectRefusal(bundle.subarray(0, end), plain)).toHaveProperty("code", "integrity");
  }, 60_000);

  test("in which any byte is flipped is refused", async () => {
    const bundle = await record(sources());
    for (let at = 0; at < bundle.length; at++) {
      const wrong = Buffer.from(bundle);
      wrong[at]! ^= 1 << (at % 8);
      await expectRefusal(wrong, plain);
    }
  }, 60_000);

  test("that lacks a frame, or has one twice, is refused", async () => {
    const stream = qemuStreamBytes({ rounds: 2, zeroShare: 0.1 });
    const disk = Buffer.concat([image, ...Array.from({ length: 600 }, (_, i) => noise(i))]);
    const both = [source("a.raw", "raw", [disk]), source("b.bin", "qemu", [stream])];
    const bundle = await record(both, { parallel: 2 });
    const expected = { "a.raw": disk, "b.bin": stream };
    const frames = splitFrames(bundle);
    for (let i = 0; i < frames.length; i++) {
      const lacking = [...frames];
      lacking.splice(i, 1);
      await expectRefusal(joinFrames(lacking), expected);
      if (frames[i]!.type === FRAME.DONE) continue;
      const twice = [...frames];
      twice.splice(i, 0, frames[i]!);
      await expectRefusal(joinFrames(twice), expected);
    }
  }, 30_000);

  test("that can't be written fails with the reason, however much is still to come", async () => {
    const pages = function* () {
      for (let i = 0; i < 6000; i++) yield noise(i);
    };
    const tape = recorder();
    let left = 3 << 20;
    const connection = {
      ...tape.connection,
      async write(buffers: readonly Uint8Array[]) {
        for (const { length } of buffers) left -= length;
        if (left < 0) throw new ShrinkerError("space", "the disk is full");
      },
    };
    const sending = within(send(connection, [source("a", "raw", pages())]), "recording", 5000);
    await expect(sending).rejects.toMatchObject({ code: "space" });
    expect(tape.ended).toBe(false);
  });

  test("fails when a source fails, whether it is the only one or not", async () => {
    const failing = (async function* () {
      yield noise(1);
      throw new ShrinkerError("input", "the file has become shorter");
    })();
    const tape = recorder();
    const long = Array.from({ length: 5000 }, (_, i) => noise(i));
    const both = [source("a", "raw", failing), source("b", "raw", long)];
    const sending = within(send(tape.connection, both, { parallel: 2 }), "recording", 5000);
    await expect(sending).rejects.toMatchObject({ code: "input", message: "the file has become shorter" });
    expect(tape.ended).toBe(false);
  });
});

describe("bytes that were changed before their checksums were made", () => {
  const stream = qemuStreamBytes({ rounds: 3, dirtyShare: 0.5, zeroShare: 0.2 });
  const raw = Buffer.concat([image, noise(1), noise(2), noise(1)]);
  const expected = { guest: stream, disk: raw };
  const recorded = record([source("guest", "qemu", [stream]), source("disk", "raw", [raw])], { codec: uncompressed });

  const changed = async (at: number, change: Parameters<typeof changeBatch>[1]) => {
    const frames = splitFrames(await recorded);
    const batches = frames.filter(({ type }) => type === FRAME.BATCH);
    const batch = batches[at % batches.length]!;
    const payload = changeBatch(batch.payload, change);
    return joinFrames(frames.map((frame) => (frame === batch ? { type: FRAME.BATCH, payload } : frame)));
  };

  test("as they are, are taken", async () => {
    const files = memoryTarget();
    await replay(await changed(0, () => {}), files);
    expect(Buffer.compare(files.get("guest").bytes, stream)).toBe(0);
    const columns = new Set<number>();
    await changed(0, (batch) => batch.columns.forEach((_, column) => void columns.add(column)));
    for (const column of [COLUMN.OPS, COLUMN.ARGUMENTS, COLUMN.LITERALS, COLUMN.DELTAS, COLUMN.CONTENTS]) {
      expect(columns.has(column)).toBe(true);
    }
  });

  test("in any column, are found out by the running digest", async () => {
    const change = fc.record({ batch: fc.nat(10), column: fc.nat(6), at: fc.nat(), bit: fc.nat(7) });
    await fc.assert(
      fc.asyncProperty(change, async ({ batch, column, at, bit }) => {
        let done = false;
        let same = false;
        const wrong = await changed(batch, ({ columns }) => {
          const present = [...columns.keys()].filter((key) => columns[key]);
          const bytes = columns[present[column % present.length]!]!;
          const index = at % bytes.length;
          // A reference to a single content may be written in two ways.
          same = bytes === columns[COLUMN.OPS] && bit === 0 && (bytes[index]! | 1) === OP.SAME;
          bytes[index]! ^= 1 << bit;
          done = true;
        });
        expect(done).toBe(true);
        if (same) {
          const files = memoryTarget();
          await replay(wrong, files);
          for (const { info, bytes } of files.all) {
            expect(Buffer.compare(bytes, expected[info.name as keyof typeof expected])).toBe(0);
          }
        } else expect((await expectRefusal(wrong, expected)).code).toBe("integrity");
      }),
      { numRuns: 150 },
    );
  }, 30_000);

  test.each(["stream", "first", "count", "segments", "plain", "forget"] as const)(
    "in a header's %s, are found out",
    async (field) => {
      for (const change of [1, 2, 1000]) {
        const wrong = await changed(0, ({ header }) => {
          header[field] += change;
        });
        await expectRefusal(wrong, expected);
      }
    },
  );

  test("in a digest that a batch or a stream ends with, are found out", async () => {
    await expectRefusal(
      await changed(1, ({ header }) => Object.assign(header, { digest: Buffer.alloc(32, 1) })),
      expected,
    );
    const frames = splitFrames(await recorded);
    const wrong = frames.map(({ type, payload }) => {
      const copy = Buffer.from(payload);
      const at = copy.indexOf("digest") + 20;
      if (type === FRAME.CLOSE) copy[at]! ^= 4;
      return { type, payload: copy };
    });
    const files = memoryTarget();
    const { streams } = await replay(joinFrames(wrong), files);
    for (const { error } of streams) expect(error?.code).toBe("integrity");
    for (const { ends } of files.all) expect(ends).toEqual(["abort"]);
  });
});
