import fc from "fast-check";
import { qemuStreamBytes } from "../../support/qemu-stream.ts";

const PAGE = 4096;

/** A page that no compressor makes smaller; the same seed always gives the same one. */
export function noise(seed: number): Buffer {
  const page = Buffer.alloc(PAGE);
  let x = (seed * 2 + 1) | 0;
  for (let i = 0; i < PAGE; i += 4) {
    x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    page.writeInt32LE(x ^ (x >>> 13), i);
  }
  return page;
}

/** A page that compresses to a few bytes. */
export function text(seed: number): Buffer {
  return Buffer.alloc(PAGE, `line ${seed} of a file\n`);
}

const page = fc.oneof(
  fc.constant(Buffer.alloc(PAGE)),
  fc.nat(5).map(text),
  fc.nat(5).map(noise),
  fc.nat(10_000).map(noise),
  fc.nat(10_000).map(text),
);

const tail = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));

/** Images: zero pages, contents that come again, noise, and an end that is not whole. */
const raw = fc.tuple(fc.array(page, { maxLength: 300 }), tail).map(([pages, end]) => Buffer.concat([...pages, end]));

/** Streams of guests of which some share contents, some end too early, and some go on with garbage. */
const qemu = fc
  .record({
    seed: fc.nat(3),
    blocks: fc.constantFrom(
      [{ name: "pc.ram", length: 60 * PAGE }],
      [
        { name: "pc.ram", length: 30 * PAGE },
        { name: "vga.vram", length: 2 ** 34, firstPage: 2 ** 21, pages: 20 },
      ],
    ),
    rounds: fc.integer({ min: 1, max: 4 }),
    dirtyShare: fc.constantFrom(0.2, 1),
    zeroShare: fc.constantFrom(0, 0.5),
    sharedShare: fc.constantFrom(0, 0.7),
    postcopy: fc.boolean(),
  })
  .chain((options) => {
    const stream = qemuStreamBytes(options);
    return fc.oneof(
      { weight: 3, arbitrary: fc.constant(stream) },
      fc.nat(stream.length).map((end) => stream.subarray(0, end)),
      tail.map((end) => Buffer.concat([stream, end])),
    );
  });

/** One stream's bytes, as any format may have to take them. */
export const plain = fc.oneof(
  raw.map((bytes) => ({ format: "raw", bytes })),
  qemu.map((bytes) => ({ format: "qemu", bytes })),
  tail.map((bytes) => ({ format: "qemu", bytes })),
  tail.map((bytes) => ({ format: "bytes", bytes })),
  raw.map((bytes) => ({ format: "bytes", bytes })),
);

/** Lengths of pieces, to be used in turn. */
export const lengths = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 300_000 }), fc.constantFrom(4096, 65_536)),
  { minLength: 1, maxLength: 20 },
);

/** Cuts bytes into pieces of these lengths. Where `holes` is set, whole pieces of zeros become holes. */
export function* cut(bytes: Buffer, sizes: readonly number[], holes = false): Generator<Uint8Array | number> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    // Short pieces only for a while: they take long.
    const size = i < 200 ? sizes[i % sizes.length]! : 65_536;
    const piece = bytes.subarray(at, at + size);
    yield holes && piece.every((byte) => byte === 0) ? piece.length : piece;
    at += piece.length;
  }
}
