import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { nbdFormat } from "../../../core/segment/nbd.ts";
import { createNbdWriter, NBD, PAYLOAD_LENGTH } from "../../support/nbd-writer.ts";
import { migrate, source } from "../../support/session.ts";
import { noise } from "../machines/image/files.ts";
import { createRecorder, type Recording, same, segment } from "./recorder.ts";

const PAGE = 4096;
const MIB = 2 ** 20;

const nbd = (bytes: Uint8Array, cuts?: readonly number[], flushAfter?: (piece: number) => boolean) =>
  segment(nbdFormat.create(), bytes, cuts, flushAfter);

/** Pages by letter: `z` of zeros, any other letter filled with it. */
const disk = (letters: string) => Buffer.concat(Array.from(letters, (it) => Buffer.alloc(PAGE, it === "z" ? 0 : it)));

/** Page by page, as zeros of several may be told together. */
const found = ({ segments }: Recording) =>
  segments.flatMap((one) => {
    if ("key" in one) return [`${one.offset}: page ${one.key}`];
    return Array.from({ length: one.zeros / PAGE }, (_, i) => `${one.offset + i * PAGE}: zero`);
  });
type Writer = ReturnType<typeof createNbdWriter>;
const written = (writer: Writer) =>
  writer.pages().map(({ offset, page, zero }) => (zero ? `${offset}: zero` : `${offset}: page ${page}`));

const lengths = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 9000 }), fc.constantFrom(28, 4095, 4096, 70_000)),
  { minLength: 1, maxLength: 40 },
);
const offset = fc.oneof(
  fc.bigInt({ min: 0n, max: 40n }).map((page) => page * 4096n),
  fc.bigInt({ min: 0n, max: 100_000n }),
  fc.bigInt({ min: 0n, max: 2n ** 51n }).map((block) => 2n ** 64n - 2n ** 15n - block * 512n),
);
const data = fc
  .tuple(fc.array(fc.constantFrom("a", "b", "z"), { maxLength: 5 }), fc.constantFrom(0, 0, 0, 1, 512, 4095))
  .map(([letters, more]) => Buffer.concat([disk(letters.join("")), Buffer.alloc(more, 5)]));
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("write" as const), offset, data, extended: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("other" as const),
      command: fc.constantFrom(NBD.READ, NBD.FLUSH, 4, 5, NBD.WRITE_ZEROES, 7),
      offset,
      length: fc.constantFrom(0n, 4096n, 2n ** 25n, 2n ** 32n - 1n),
      extended: fc.boolean(),
    }),
  },
);
const conversations = fc.array(step, { maxLength: 8 }).map((steps) => {
  const writer = createNbdWriter().negotiate();
  for (const one of steps) {
    if (one.kind === "write") writer.write(one.offset, one.data, one.extended);
    else writer.request(one);
  }
  return writer.request({ command: NBD.DISCONNECT });
});

describe("a client's conversation", () => {
  test("has the pages that it writes under their numbers, and joins zeros", () => {
    const writer = createNbdWriter().negotiate();
    writer.request({ command: NBD.READ, length: 65_536n }).request({ command: NBD.WRITE_ZEROES, length: 2n ** 25n });
    const before = writer.take().length + 28;
    writer
      .write(10n * 4096n, disk("azzzb"))
      .request({ command: NBD.FLUSH })
      .write(2n ** 40n, disk("c"), true);
    const { segments, bytes, literals } = nbd(writer.take());
    expect(segments).toEqual([
      { key: 10, offset: before },
      { zeros: 3 * PAGE, offset: before + PAGE },
      { key: 14, offset: before + 4 * PAGE },
      { key: 2 ** 28, offset: before + 5 * PAGE + 28 + 32 },
    ]);
    expect(literals).toBe(2);
    expect(same(bytes, writer.take())).toBe(true);
  });

  test("keeps to the disk's pages where a write does not", () => {
    const writer = createNbdWriter().negotiate().write(512n, disk("abc")).write(1024n, disk("a").subarray(0, 3072));
    writer.write(5n * 4096n - 512n, Buffer.alloc(512 + PAGE + 100, 1)).write(2n ** 64n - 4096n, disk("y"));
    const pages = nbd(writer.take()).segments.map((one) => "key" in one && one.key);
    expect(pages).toEqual([1, 2, 5, 2 ** 52 - 1]);
    expect(found(nbd(writer.take()))).toEqual(written(writer));
  });

  test("has the same pages in any pieces", () => {
    fc.assert(
      fc.property(conversations, lengths, (writer, cuts) => {
        const input = writer.take();
        const many = nbd(input, cuts);
        expect(same(many.bytes, input)).toBe(true);
        expect(found(many)).toEqual(written(writer));
        expect(found(nbd(input))).toEqual(written(writer));
      }),
      { numRuns: 100 },
    );
  });

  test("loses to flushes at most the pages that they cut", () => {
    fc.assert(
      fc.property(conversations, lengths, fc.array(fc.boolean(), { minLength: 1 }), (writer, cuts, flushes) => {
        const input = writer.take();
        const flushedAt: number[] = [];
        let at = 0;
        const many = nbd(input, cuts, (piece) => {
          at += cuts[piece % cuts.length]!;
          if (!flushes[piece % flushes.length]) return false;
          flushedAt.push(at);
          return true;
        });
        const isCut = (page: string) => {
          const begin = Number.parseInt(page, 10);
          return flushedAt.some((flush) => flush > begin && flush < begin + PAGE);
        };
        expect(same(many.bytes, input)).toBe(true);
        expect(found(many)).toEqual(written(writer).filter((page) => !isCut(page)));
      }),
      { numRuns: 100 },
    );
  });

  test("holds back nothing but the beginning of a page", () => {
    const recorder = createRecorder();
    const segmenter = nbdFormat.create();
    const input = createNbdWriter().negotiate().write(100n, disk("ab")).take();
    const begin = input.length - 2 * PAGE + (PAGE - 100);
    for (let at = 0; at < input.length; at++) {
      segmenter.push(input, at, at + 1, recorder.sink);
      const held = at < begin || at >= begin + PAGE - 1 ? 0 : at + 1 - begin;
      if (at + 1 - recorder.length() !== held) throw new Error(`${at + 1 - recorder.length()} held at ${at}`);
    }
    expect(recorder.end().segments).toEqual([{ key: 1, offset: begin }]);
  });

  test("may have payloads of other extended requests, and empty writes", () => {
    const writer = createNbdWriter().negotiate();
    for (const command of [7, 99]) {
      writer.request({ command, flags: PAYLOAD_LENGTH, data: disk("q").subarray(0, 777), extended: true });
    }
    writer
      .request({ command: 99, length: 2n ** 63n, extended: true })
      .write(0n, Buffer.alloc(0))
      .write(4096n, disk("a"));
    expect(found(nbd(writer.take()))).toEqual(written(writer));
    expect(written(writer).length).toBe(1);
  });
});

describe("from what isn't understood on, everything passes", () => {
  const talk = () => createNbdWriter().negotiate();
  const cases: readonly (readonly [string, () => Writer])[] = [
    ["flags of no client", () => createNbdWriter().flags(4).option(7)],
    ["a client that has no flags", () => createNbdWriter().request({ command: NBD.READ, length: 512n })],
    ["TLS", () => createNbdWriter().flags().option(5).bytes("\x16\x03\x01\x02\0\x01\0")],
    ["half an option's magic", () => createNbdWriter().flags().bytes("IHAVENOT\0\0\0\x07\0\0\0\0")],
    ["an option after a request", () => talk().request({ command: NBD.FLUSH }).option(7)],
    ["another magic", () => talk().bytes(Buffer.alloc(28, 7))],
    ["an unknown command", () => talk().request({ command: 9, length: 4096n })],
    ["a write beyond numbers", () => talk().request({ command: NBD.WRITE, length: 2n ** 63n, extended: true })],
  ];
  test.each(cases)("%s", (_, make) => {
    const writer = make();
    const before = writer.take().length;
    const input = writer.write(0n, disk("abc")).write(4096n, disk("a")).take();
    for (const cuts of [[input.length], [1], [before, 5000]]) {
      const { segments, bytes } = nbd(input, cuts);
      expect(segments).toEqual([]);
      expect(same(bytes, input)).toBe(true);
    }
  });

  const large: readonly (readonly [string, (length: number) => Writer, number])[] = [
    ["an option", (length) => createNbdWriter().flags().option(7, Buffer.alloc(0), length), 0],
    ["a write", (length) => talk().request({ command: NBD.WRITE, length: BigInt(length) }), 64 * 256],
    [
      "a payload",
      (length) => talk().request({ command: 7, flags: PAYLOAD_LENGTH, length: BigInt(length), extended: true }),
      0,
    ],
  ];
  test.each(large)("%s of more than 64 MiB", (_, make, pages) => {
    const megabyte = Buffer.alloc(MIB, 1);
    const chunks = (excess: number) => {
      const keys: number[] = [];
      const sink = { literal() {}, zero() {}, chunk: (_: Uint8Array, __: number, key: number) => void keys.push(key) };
      const segmenter = nbdFormat.create();
      const push = (bytes: Uint8Array) => segmenter.push(bytes, 0, bytes.length, sink);
      push(make(64 * MIB + excess).take());
      for (let i = 0; i < 64; i++) push(megabyte);
      push(megabyte.subarray(0, excess));
      push(
        createNbdWriter()
          .write(77n * 4096n, disk("a"))
          .take(),
      );
      return keys;
    };
    expect(chunks(0)).toEqual([...Array(pages).keys(), 77]);
    expect(chunks(1)).toEqual([]);
  });

  test("but a refused option is followed by another", () => {
    const writer = createNbdWriter().flags(1).option(5).option(7).option(7, Buffer.alloc(6)).write(0n, disk("a"));
    expect(found(nbd(writer.take()))).toEqual(written(writer));
  });
});

describe("whatever comes, the output is the input", () => {
  test("random bytes behind a valid beginning", () => {
    const heads = fc.constantFrom(
      Buffer.alloc(0),
      createNbdWriter().flags().take(),
      createNbdWriter().flags().bytes("IHAVEOPT").take(),
      createNbdWriter().negotiate().bytes("\x25\x60\x95\x13\0\0\0\x01").take(),
      createNbdWriter().negotiate().bytes("\x21\xe4\x1c\x71\0\x20\0\x01").take(),
    );
    fc.assert(
      fc.property(heads, fc.uint8Array({ maxLength: 400 }), lengths, (head, bytes, cuts) => {
        const input = Buffer.concat([head, bytes]);
        expect(same(nbd(input, cuts).bytes, input)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test("conversations that end early or have flipped bits", () => {
    fc.assert(
      fc.property(
        conversations,
        fc.array(fc.nat(), { maxLength: 8 }),
        fc.nat(),
        lengths,
        (writer, flips, stop, cuts) => {
          const bytes = writer.take();
          for (const flip of flips) bytes[flip % bytes.length]! ^= 1 << (flip % 8);
          const input = bytes.subarray(0, stop % 3 === 0 ? stop % bytes.length : bytes.length);
          const many = nbd(input, cuts);
          expect(same(many.bytes, input)).toBe(true);
          expect(found(many)).toEqual(found(nbd(input)));
        },
      ),
      { numRuns: 100 },
    );
  });
});

test("in a session, blocks that are written again go as XORs, and those of another disk as references", async () => {
  const content = Buffer.from(noise(64 * PAGE, 3));
  const changed = Buffer.from(content);
  for (let at = 100; at < changed.length; at += PAGE) changed[at]! ^= 1;
  const first = createNbdWriter().negotiate().write(8192n, content).write(8192n, changed).take();
  const other = createNbdWriter()
    .negotiate()
    .write(512n, Buffer.alloc(7680))
    .write(2n ** 30n, changed)
    .take();
  const { sent, files } = await migrate([source("first", "nbd", [first]), source("other", "nbd", [other])]);
  expect(same(files.get("first").bytes, first)).toBe(true);
  expect(same(files.get("other").bytes, other)).toBe(true);
  expect(sent.counters.delta).toBe(64 * PAGE);
  expect(sent.counters.deduplicated).toBe(64 * PAGE);
});
