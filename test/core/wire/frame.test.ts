import { describe, expect, test } from "bun:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { LinkError, ShrinkerError } from "../../../core/errors.ts";
import { type Frame, FrameReader, frameHeader, preface } from "../../../core/wire/frame.ts";
import { FRAME, FRAME_HEADER_BYTES } from "../../../core/wire/numbers.ts";
import { lengths, pieces } from "./pieces.ts";

const frame = (type: number, sequence: number, payload: Uint8Array = new Uint8Array(0)) =>
  Buffer.concat([frameHeader(type, sequence, [payload]), payload]);

/** A header with any fields and right checksums. */
function header(fields: { length?: number; type?: number; reserved?: number; sequence?: number; checksum?: number }) {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES);
  bytes.writeUInt32LE(fields.length ?? 0, 0);
  bytes.writeUInt8(fields.type ?? FRAME.PING, 4);
  bytes.writeUIntLE(fields.reserved ?? 0, 5, 3);
  bytes.writeUInt32LE(fields.sequence ?? 0, 8);
  bytes.writeUInt32LE(fields.checksum ?? 0, 12);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 16)), 16);
  return bytes;
}

/** A direction of three frames: a short one, one without payload, a longer one. */
const DIRECTION = Buffer.concat([
  preface(),
  frame(FRAME.HELLO, 0, Buffer.from("hello")),
  frame(FRAME.PING, 1),
  frame(FRAME.BATCH, 2, Buffer.alloc(90, "b")),
]);

async function readAll(bytes: Uint8Array, cut?: readonly number[]): Promise<Frame[]> {
  const reader = new FrameReader(pieces(bytes, cut), "tcp://peer");
  await reader.preface();
  const frames: Frame[] = [];
  for (let next = await reader.next(); next; next = await reader.next()) frames.push(next);
  expect(reader.offset).toBe(bytes.length);
  return frames;
}

async function errorOf(promise: Promise<unknown>): Promise<ShrinkerError> {
  const error = await promise.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  expect((error as Error).message).not.toContain("\n");
  return error as ShrinkerError;
}

/** Reads one frame that follows a right preface. */
function readOne(bytes: Uint8Array): Promise<Frame | undefined> {
  const reader = new FrameReader(pieces(bytes), "tcp://peer");
  return reader.next();
}

describe("frames", () => {
  test("any frames are read, however they arrive", async () => {
    const control = fc.tuple(
      fc.constantFrom(FRAME.HELLO, FRAME.OPEN, FRAME.ACK, 250),
      fc.uint8Array({ maxLength: 60 }),
    );
    const large = fc.tuple(fc.constant(FRAME.BATCH), fc.uint8Array({ maxLength: 9000, size: "max" }));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(control, large), { maxLength: 8 }), lengths, async (written, cut) => {
        const bytes = Buffer.concat([preface(), ...written.map(([type, payload], i) => frame(type, i, payload))]);
        const read = await readAll(bytes, cut);
        expect(read.map(({ type, sequence }) => [type, sequence])).toEqual(written.map(([type], i) => [type, i]));
        read.forEach(({ payload }, i) => {
          expect(Buffer.compare(payload, written[i]![1])).toBe(0);
        });
      }),
      { numRuns: 150 },
    );
  });

  test("a header covers a payload in parts", () => {
    const parts = ["so", "", "me parts"].map((text) => Buffer.from(text));
    expect(frameHeader(FRAME.BATCH, 5, parts)).toEqual(frameHeader(FRAME.BATCH, 5, [Buffer.concat(parts)]));
  });

  test("a direction that is cut anywhere ends or is told to be cut short", async () => {
    const ends = [16, 16 + 25, 16 + 25 + 20];
    for (let length = 16; length < DIRECTION.length; length++) {
      const cut = DIRECTION.subarray(0, length);
      if (ends.includes(length)) expect(await readAll(cut)).toHaveLength(ends.indexOf(length));
      else {
        const { code, message } = await errorOf(readAll(cut));
        expect(code).toBe("integrity");
        expect(message).toContain("cut short");
        expect(message).toContain(`byte ${length}`);
      }
    }
  });

  test("every byte counts, with each of its bits", async () => {
    for (let at = 0; at < DIRECTION.length; at++) {
      for (const bit of [0, 3, 7]) {
        const bytes = Buffer.from(DIRECTION);
        bytes[at]! ^= 1 << bit;
        const { code } = await errorOf(readAll(bytes));
        expect(code).toBe(at < 8 ? "link" : "integrity");
      }
    }
  });

  test.each([
    ["a batch", FRAME.BATCH, 8 << 20],
    ["a content", FRAME.CONTENT, 8 << 20],
    ["a piece of a summary", FRAME.SUMMARY, 8 << 20],
    ["a control frame", FRAME.OPEN, 64 << 10],
    ["a signature", FRAME.SIGNATURE, 64 << 10],
    ["a frame of unknown type", 99, 64 << 10],
  ])("%s has a limit", async (_, type, limit) => {
    for (const length of [limit + 1, 0xffff_ffff]) {
      const { message } = await errorOf(readOne(header({ type, length })));
      // Refused by its header, before anything of it was waited for.
      expect(message).toContain(`${length} bytes`);
    }
    expect((await errorOf(readOne(header({ type, length: limit })))).message).toContain("cut short");
  });

  test("the largest frame is read", async () => {
    const payload = Buffer.alloc(8 << 20, 7);
    const reader = new FrameReader(pieces(frame(FRAME.BATCH, 0, payload), [1 << 20]), "tcp://peer");
    expect(Buffer.compare((await reader.next())!.payload, payload)).toBe(0);
  });

  test("frames that are repeated, left out, or in another order are refused", async () => {
    const frames = [0, 1, 2].map((i) => frame(FRAME.PING, i));
    for (const order of [[0, 0], [0, 2], [1], [0, 1, 0]]) {
      const bytes = Buffer.concat([preface(), ...order.map((i) => frames[i]!)]);
      expect((await errorOf(readAll(bytes))).message).toContain("is due");
    }
  });

  test("the number after 2^32 - 1 is 0", async () => {
    const last = 2 ** 32 - 1;
    const bytes = Buffer.concat([last, 0, 1].map((number) => frame(FRAME.PING, number)));
    const reader = new FrameReader(pieces(bytes), "tcp://peer");
    reader.expect(last);
    for (const number of [last, 0, 1]) expect((await reader.next())!.sequence).toBe(number);
  });

  test("reserved bytes are zero", async () => {
    for (const reserved of [1, 1 << 8, 1 << 23]) {
      expect((await errorOf(readOne(header({ reserved })))).message).toContain("breaks the protocol");
    }
  });

  test("a payload that is not the one its header names is refused", async () => {
    const bytes = Buffer.concat([header({ length: 3, checksum: crc32("abc") }), Buffer.from("abd")]);
    expect((await errorOf(readOne(bytes))).message).toContain("checksum");
  });
});

describe("preface", () => {
  test("another version is refused", async () => {
    for (const version of [0, 2, 0xffff]) {
      const { code, message } = await errorOf(readAll(preface(version)));
      expect(code).toBe("refused");
      expect(message).toContain(`version ${version}`);
      expect(message).toContain("same release");
    }
  });

  test("what came instead is quoted, on one line", async () => {
    for (const cut of [[1], [7], [200]]) {
      const error = await errorOf(readAll(Buffer.from("Welcome to\r\n\u001b[31mhost\u0007!\n"), cut));
      expect(error).toBeInstanceOf(LinkError);
      expect(error.message).toMatch(cut[0] === 200 ? /"Welcome to \[31mhost !"/ : /"Welcome to/);
    }
    const long = (await errorOf(readAll(Buffer.alloc(9000, "x")))).message;
    expect(long.length).toBeLessThan(400);
  });

  test("a peer that ends before or within it is told so", async () => {
    for (let length = 0; length < 16; length++) {
      const error = await errorOf(readAll(preface().subarray(0, length)));
      expect(error).toBeInstanceOf(LinkError);
      expect(error.message).toContain("is it a shrinker?");
    }
    expect((await errorOf(readAll(Buffer.from("bash: shrin\n")))).message).toContain("bash: shrin");
  });

  test("what the input fails with is passed on", async () => {
    // biome-ignore lint/correctness/useYield: it fails before it gives anything
    async function* broken(): AsyncGenerator<Uint8Array> {
      throw new LinkError("cut");
    }
    const reader = new FrameReader(broken(), "tcp://peer");
    expect((await errorOf(reader.preface())).message).toBe("cut");
    expect((await errorOf(new FrameReader(broken(), "tcp://peer").next())).message).toBe("cut");
  });
});

describe("the beginning of a recording", () => {
  test("is damaged, and not somebody else, wherever it is cut or changed", async () => {
    const begin = preface();
    for (let i = 0; i < begin.length; i++) {
      const changed = Buffer.from(begin);
      changed[i] = changed[i]! ^ 0x20;
      for (const bytes of [begin.subarray(0, i), changed]) {
        const reader = new FrameReader(pieces(bytes), "site.bundle", true);
        const { code, message } = await errorOf(reader.preface());
        expect([i, code]).toEqual([i, "integrity"]);
        expect(message).toContain("site.bundle");
      }
    }
  });
});
