import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { IntegrityError, ShrinkerError } from "../../../../core/errors.ts";
import type { ColumnDecoder, ColumnEncoder } from "../../../../core/wire/codec/codec.ts";

export interface CodecUnderTest {
  encoder(): ColumnEncoder;
  decoder(): ColumnDecoder;
}

const HANG_MS = 10_000;

/** What a promise comes to: `undefined`, or why it was rejected. Fails where it comes to nothing. */
export async function outcome(promise: Promise<unknown>): Promise<unknown> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it hung for ${HANG_MS} ms`)), HANG_MS);
  });
  const settled = promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  try {
    return await Promise.race([settled, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function encodeAll(encoder: ColumnEncoder, pieces: readonly Uint8Array[]): Promise<Buffer[]> {
  const encoded: Buffer[] = [];
  for (const piece of pieces) encoded.push(Buffer.concat(await encoder.encode(piece)));
  encoder.close();
  return encoded;
}

/** Decodes into the middle of a larger buffer, and checks that nothing around it was touched. */
export async function decode(decoder: ColumnDecoder, piece: Uint8Array, length: number) {
  const around = Buffer.alloc(length + 64, 0xee);
  const error = await outcome(decoder.decode(piece, around.subarray(32, 32 + length)));
  const outside = Buffer.concat([around.subarray(0, 32), around.subarray(32 + length)]);
  expect(outside.every((byte) => byte === 0xee)).toBe(true);
  return { error, bytes: around.subarray(32, 32 + length) };
}

/** Bytes without a pattern, alike for the same seed. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed * 2_654_435_761 + 1;
  for (let i = 0; i < length; i++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Bytes as columns have them: noise, one value, and something that is like both. */
const piece: fc.Arbitrary<Buffer> = fc
  .tuple(
    fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constantFrom(4096, 1 << 17, (1 << 17) + 1, 1 << 18, 300_001)),
    fc.nat(1000),
    fc.constantFrom("noise", "same", "mixed"),
  )
  .map(([length, seed, kind]) => {
    if (kind === "same") return Buffer.alloc(length, seed & 255);
    const bytes = noise(length, seed);
    return kind === "noise" ? bytes : bytes.fill(7, length >> 1);
  });

/** What every codec of a column has to do. */
export function codecCompliance(name: string, { encoder, decoder }: CodecUnderTest): void {
  const text = Buffer.from("a page like any other, ".repeat(400));

  describe(`${name} as a codec`, () => {
    test("any pieces are decoded, each at once and in order", () =>
      fc.assert(
        fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 6 }), async (pieces) => {
          const [from, to] = [encoder(), decoder()];
          for (const piece of pieces) {
            // The other end has the whole piece before the next is begun.
            const encoded = Buffer.concat(await from.encode(piece));
            const { error, bytes } = await decode(to, encoded, piece.length);
            expect(error).toBe(undefined);
            expect(Buffer.compare(bytes, piece)).toBe(0);
          }
          from.close();
          to.close();
        }),
        { numRuns: 25 },
      ));

    test("pieces stay as they were given while more are encoded", async () => {
      const from = encoder();
      const first = Buffer.concat(await from.encode(text));
      const kept = await from.encode(noise(5000, 1));
      const copy = Buffer.concat(kept);
      await from.encode(text);
      await from.encode(noise(5000, 2));
      from.close();
      expect(Buffer.compare(Buffer.concat(kept), copy)).toBe(0);
      const to = decoder();
      expect((await decode(to, first, text.length)).error).toBe(undefined);
      to.close();
    });

    test("a piece that holds more or fewer bytes than it should is refused", async () => {
      for (const length of [1, 100, 1 << 17, (1 << 17) + 1, 1 << 18]) {
        for (const off of [-length + 1, -1, 1, 1000, 1 << 17]) {
          if (off === 0 || length + off < 1) continue;
          const to = decoder();
          const [encoded] = await encodeAll(encoder(), [Buffer.alloc(length, 5)]);
          expect((await decode(to, encoded!, length + off)).error).toBeInstanceOf(IntegrityError);
          to.close();
        }
      }
    });

    test("a piece that is cut anywhere is refused", async () => {
      const [encoded] = await encodeAll(encoder(), [text.subarray(0, 300)]);
      const step = Math.max(1, Math.floor(encoded!.length / 40));
      for (let length = 0; length < encoded!.length; length += step) {
        const to = decoder();
        expect((await decode(to, encoded!.subarray(0, length), 300)).error).toBeInstanceOf(IntegrityError);
        to.close();
      }
    });

    test("a changed piece comes to an end, and so does all that follows", async () => {
      const pieces = [text, noise(3000, 3), text.subarray(0, 2000)];
      const encoded = await encodeAll(encoder(), pieces);
      await fc.assert(
        fc.asyncProperty(fc.nat(1), fc.nat(), fc.integer({ min: 1, max: 255 }), async (which, at, flip) => {
          const to = decoder();
          for (const [i, bytes] of encoded.entries()) {
            const changed = Buffer.from(bytes);
            if (i === which) changed[at % changed.length]! ^= flip;
            const { error } = await decode(to, changed, pieces[i]!.length);
            if (i < which) expect(error).toBe(undefined);
            else if (error !== undefined) expect(error).toBeInstanceOf(IntegrityError);
          }
          to.close();
        }),
        { numRuns: 60 },
      );
    });

    test("random bytes come to an end", () =>
      fc.assert(
        fc.asyncProperty(
          fc.uint8Array({ maxLength: 200 }),
          fc.integer({ min: 1, max: 9000 }),
          async (bytes, length) => {
            const to = decoder();
            const { error } = await decode(to, bytes, length);
            if (error !== undefined) expect(error).toBeInstanceOf(IntegrityError);
            to.close();
          },
        ),
        { numRuns: 60 },
      ));

    test("a piece that holds a thousand times what it should costs no more than its target", async () => {
      const [encoded] = await encodeAll(encoder(), [Buffer.alloc(64 << 20)]);
      const to = decoder();
      const since = performance.now();
      const { error, bytes } = await decode(to, encoded!, 100);
      expect(error).toBeInstanceOf(IntegrityError);
      expect(bytes.every((byte) => byte === 0xee || byte === 0)).toBe(true);
      // Decoding all of it takes longer than finding out.
      expect(performance.now() - since).toBeLessThan(2000);
      // A stream that was given up stays so, or goes on; it does not hang.
      await decode(to, encoded!, 100);
      to.close();
    }, 30_000);

    test("may be closed at any time, and again", async () => {
      const unused = [encoder(), decoder()];
      for (const one of unused) {
        one.close();
        one.close();
      }
      const from = encoder();
      const [encoded] = await encodeAll(encoder(), [text]);
      const encoding = outcome(from.encode(noise(1 << 20, 4)));
      from.close();
      const told = await encoding;
      if (told !== undefined) expect(told).toBeInstanceOf(ShrinkerError);
      const after = await outcome(from.encode(text));
      if (after !== undefined) expect(after).toBeInstanceOf(ShrinkerError);
      const to = decoder();
      const decoding = decode(to, encoded!, text.length);
      to.close();
      const { error } = await decoding;
      if (error !== undefined) expect(error).toBeInstanceOf(IntegrityError);
      const late = await decode(to, encoded!, text.length);
      if (late.error !== undefined) expect(late.error).toBeInstanceOf(IntegrityError);
    });
  });
}
