import { describe, expect, test } from "bun:test";
import * as F from "../../../core/segment/qemu/format.ts";
import { createQemuSegmenter } from "../../../core/segment/qemu.ts";
import { NO_KEY } from "../../../core/segment/segmenter.ts";
import { type QemuStreamOptions, qemuStream, qemuStreamBytes } from "../../support/qemu-stream.ts";
import { createQemuWriter, type QemuWriter } from "../../support/qemu-writer.ts";
import { same, segment } from "./recorder.ts";

const PAGE = 4096;
const BLOCK_KEYS = 2 ** 40;
const SAME_PAGE = F.RAM_PAGE | F.RAM_CONTINUE;
const page = (fill: number) => Buffer.alloc(PAGE, fill);

/** A stream up to the first record of RAM, in section 5. */
function begin(prepare: (writer: QemuWriter) => void = () => {}): QemuWriter {
  const writer = createQemuWriter().header().machine("pc");
  prepare(writer);
  return writer.named(F.SECTION_START, 5, "ram", F.RAM_VERSION);
}

/** Segments a stream and gives the keys of its chunks, after checking that nothing was changed. */
function run(writer: QemuWriter) {
  const stream = writer.take();
  const segmenter = createQemuSegmenter();
  const recording = segment(segmenter, stream);
  expect(same(recording.bytes, stream)).toBe(true);
  const pieces = segment(createQemuSegmenter(), stream, [stream.length < 100_000 ? 1 : 777]);
  expect(pieces.segments).toEqual(recording.segments as typeof pieces.segments);
  const keys = recording.segments.map((one) => ("key" in one ? one.key : -one.zeros));
  return { keys, literals: recording.literals, statistics: segmenter.statistics() };
}

describe("generated streams", () => {
  const variants: [string, QemuStreamOptions, string][] = [
    ["one round", {}, "devices"],
    ["rounds that send pages again", { rounds: 4, dirtyShare: 0.3 }, "devices"],
    ["post-copy", { postcopy: true, rounds: 2, deviceBytes: 20_000, descriptionBytes: 500 }, "ended"],
    [
      "blocks and addresses above 4 GiB",
      {
        blocks: [
          { name: "ram0", length: 6 * 2 ** 40, firstPage: 2 ** 30 + 3, pages: 9 },
          { name: "ram1", length: 5 * 2 ** 30, firstPage: 2 ** 20 - 4, pages: 8 },
        ],
      },
      "devices",
    ],
  ];
  test.each(variants)("%s", (_name, options, state) => {
    const expected: number[] = [];
    let zeroRecords = 0;
    const stream = qemuStreamBytes({
      ...options,
      onRecord: (key, isPage) => void (isPage ? expected.push(key) : zeroRecords++),
    });
    const segmenter = createQemuSegmenter();
    const { bytes, segments } = segment(segmenter, stream, [65_536]);
    expect(same(bytes, stream)).toBe(true);
    expect(segments.map((one) => "key" in one && one.key)).toEqual(expected);
    const statistics = segmenter.statistics();
    expect(statistics.state).toBe(state as typeof statistics.state);
    expect([statistics.pages, statistics.zeroRecords]).toEqual([expected.length, zeroRecords]);
    expect(statistics.lost).toBeUndefined();
  });

  test("are the same each time, in pieces of the size asked for", () => {
    const pieces = [...qemuStream({ pieceSize: 1000, seed: 3 })];
    expect(new Set(pieces.slice(0, -1).map((piece) => piece.length))).toEqual(new Set([1000]));
    expect(same(Buffer.concat(pieces), qemuStreamBytes({ seed: 3 }))).toBe(true);
    expect(same(Buffer.concat(pieces), qemuStreamBytes({ seed: 4 }))).toBe(false);
  });
});

describe("records", () => {
  test("pages have the keys of their place, in every block and across sections", () => {
    const writer = begin().blockList([
      { name: "a", length: 16 * PAGE },
      { name: "b", length: 16 * PAGE },
    ]);
    writer.record(3 * PAGE, F.RAM_PAGE, "b").bytes(page(1));
    writer
      .record(4 * PAGE, SAME_PAGE)
      .bytes(page(2))
      .record(0, F.RAM_EOS)
      .footer(5);
    writer
      .continued(F.SECTION_PART, 5)
      .record(5 * PAGE, SAME_PAGE)
      .bytes(page(3));
    writer.record(0, F.RAM_ZERO, "a").raw(0).record(PAGE, SAME_PAGE).bytes(page(4));
    writer
      .record(9 * PAGE, F.RAM_PAGE, "new")
      .bytes(page(5))
      .record(0, F.RAM_EOS)
      .footer(5);
    const { keys, statistics } = run(writer);
    expect(keys).toEqual([BLOCK_KEYS + 3, BLOCK_KEYS + 4, BLOCK_KEYS + 5, 1, 2 * BLOCK_KEYS + 9]);
    expect(statistics.blocks).toEqual([
      { name: "a", length: 16 * PAGE, pages: 1, zeros: 1 },
      { name: "b", length: 16 * PAGE, pages: 3, zeros: 0 },
      { name: "new", length: 0, pages: 1, zeros: 0 },
    ]);
    expect(statistics.state).toBe("ram");
  });

  test("names are told apart by all their bytes, and are printable", () => {
    const writer = begin();
    for (const name of ["\x1b[2J", "\\x1b[2J", "\xe4", "\x7f", "ok-[]~ "])
      writer.record(0, F.RAM_PAGE, name).bytes(page(1));
    const { keys, statistics } = run(writer);
    expect(keys).toEqual([0, 1, 2, 3, 4].map((index) => index * BLOCK_KEYS));
    const names = ["\\x1b[2J", "\\x5cx1b[2J", "\\xe4", "\\x7f", "ok-[]~ "];
    expect(statistics.blocks.map((block) => block.name)).toEqual(names);
  });

  test("a page of zeros that was sent as a page is a zero", () => {
    expect(run(begin().record(0, F.RAM_PAGE, "a").bytes(page(0)).record(PAGE, SAME_PAGE).bytes(page(0))).keys).toEqual([
      -PAGE,
      -PAGE,
    ]);
  });

  test("all other records are passed over", () => {
    const writer = begin().record(0, F.RAM_PAGE, "a").bytes(page(1)).record(0, F.RAM_HOOK);
    writer
      .record(PAGE, F.RAM_XBZRLE | F.RAM_CONTINUE)
      .raw(1, 0, 3, 9, 9, 9)
      .record(PAGE, F.RAM_XBZRLE, "b")
      .raw(1, 0, 0);
    writer
      .record(PAGE, F.RAM_COMPRESSED | F.RAM_CONTINUE)
      .raw(0, 0, 0, 2, 7, 7)
      .record(0, F.RAM_MULTIFD_FLUSH);
    writer
      .record(2 * PAGE, SAME_PAGE)
      .bytes(page(2))
      .record(0, F.RAM_EOS);
    const { keys, statistics } = run(writer);
    expect(keys).toEqual([0, BLOCK_KEYS + 2]);
    expect([statistics.xbzrle, statistics.compressed, statistics.state]).toEqual([2, 1, "ram"]);
  });

  test("a run of zero records and the next page's header are one literal", () => {
    const writer = begin().record(0, F.RAM_ZERO, "a").raw(0);
    for (let i = 1; i < 100; i++) writer.record(i * PAGE, F.RAM_ZERO | F.RAM_CONTINUE).raw(0);
    writer
      .record(100 * PAGE, SAME_PAGE)
      .bytes(page(1))
      .record(101 * PAGE, SAME_PAGE)
      .bytes(page(1));
    expect(run(writer).literals).toBe(2);
  });

  test("nothing is taken for a record that is not at its place, wherever a piece ends", () => {
    const decoy = Buffer.alloc(PAGE, Buffer.of(0, SAME_PAGE));
    const writer = begin().record(0, F.RAM_ZERO, "a").raw(0);
    for (let i = 1; i < 4; i++) writer.record(i * PAGE, F.RAM_ZERO | F.RAM_CONTINUE).raw(0);
    const pages = writer.take();
    writer
      .bytes(pages)
      .record(4 * PAGE, SAME_PAGE)
      .bytes(decoy)
      .record(5 * PAGE, SAME_PAGE)
      .bytes(decoy);
    const stream = writer.record(0, F.RAM_EOS).footer(5).take();
    const whole = segment(createQemuSegmenter(), stream).segments;
    expect(whole.map((one) => "key" in one && one.key)).toEqual([4, 5]);
    for (let cut = 1; cut < stream.length; cut++) {
      const segmenter = createQemuSegmenter();
      const { segments } = segment(segmenter, stream, [cut, stream.length]);
      if (
        segments.length !== 2 ||
        segments[0]?.offset !== whole[0]?.offset ||
        segments[1]?.offset !== whole[1]?.offset
      ) {
        throw new Error(`cut at ${cut}: ${JSON.stringify(segments)}`);
      }
      expect(segmenter.statistics().zeroRecords).toBe(4);
    }
  });

  test("an address has a key below 2^52", () => {
    const writer = begin()
      .record(2 ** 52 - PAGE, F.RAM_PAGE, "a")
      .bytes(page(1))
      .record(2 ** 52, SAME_PAGE)
      .bytes(page(1));
    expect(run(writer).keys).toEqual([BLOCK_KEYS - 1, NO_KEY]);
  });

  test("an address or a block beyond the bounds gets no key", () => {
    const writer = begin().raw(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0, F.RAM_PAGE, 1, 97).bytes(page(1));
    for (let i = 1; i < 1030; i++) writer.record(PAGE, F.RAM_PAGE, `block${i}`).bytes(page(1));
    const { keys, statistics } = run(writer);
    expect([keys[0], keys[1], keys[1023], keys[1024], keys[1029]]).toEqual([
      NO_KEY,
      BLOCK_KEYS + 1,
      1023 * BLOCK_KEYS + 1,
      NO_KEY,
      NO_KEY,
    ]);
    expect([statistics.blocks.length, statistics.pages]).toEqual([1024, 1030]);
  });
});

describe("what surrounds RAM", () => {
  const onePage = (writer: QemuWriter) =>
    writer
      .record(7 * PAGE, F.RAM_PAGE, "a")
      .bytes(page(1))
      .record(0, F.RAM_EOS);

  test("configuration, commands and packages", () => {
    const writer = begin((head) => {
      head.subsection("target-page-bits", Buffer.of(0, 0, 0, 12)).subsection("uuid", Buffer.alloc(16, 1));
      head
        .capabilities("some-capability")
        .command(1)
        .command(2, Buffer.of(0, 0, 0, 1));
    });
    onePage(writer).footer(5).packaged(page(1)).packaged(Buffer.alloc(0));
    onePage(writer.continued(F.SECTION_PART, 5)).footer(5);
    onePage(writer.continued(F.SECTION_END, 5)).footer(5).raw(F.EOF, F.VMDESCRIPTION, 0, 0, 0, 2).raw(1, 2);
    const { keys, statistics } = run(writer);
    expect(keys).toEqual([7, 7, 7]);
    expect(statistics.state).toBe("ended");
  });

  test("a post-copy that goes on over another stream announces nothing", () => {
    const resumed = () =>
      createQemuWriter().command(10, Buffer.from("\x06pc.ram")).command(10, Buffer.from("\x04bios")).command(9);
    const good = resumed()
      .continued(F.SECTION_PART, 3)
      .record(8 * PAGE, F.RAM_PAGE, "pc.ram")
      .bytes(page(1));
    good
      .record(9 * PAGE, SAME_PAGE)
      .bytes(page(2))
      .record(0, F.RAM_EOS)
      .footer(3);
    good.continued(F.SECTION_END, 3).record(0, F.RAM_EOS).footer(3).raw(F.EOF);
    const { keys, statistics } = run(good);
    expect([keys, statistics.state]).toEqual([[8, 9], "ended"]);
    const other = resumed().continued(F.SECTION_PART, 3).record(0, F.RAM_EOS).footer(3).continued(F.SECTION_PART, 4);
    expect(run(other).statistics.lost?.reason).toBe("section 4 is not that of RAM");
  });

  test("block lists with mapped addresses, and with the sizes of huge pages", () => {
    const extra = Buffer.from("0000000000200000", "hex");
    const list = Buffer.from("0000000000400004", "hex");
    const block = (name: string) => Buffer.from(`\x01${name}\0\0\0\0\0\x20\0\0`, "latin1");
    const shared = begin((head) => head.capabilities("x-ignore-shared"));
    shared.bytes(Buffer.concat([list, block("x"), extra, block("a"), extra]));
    expect(run(onePage(shared)).keys).toEqual([BLOCK_KEYS + 7]);
    const sizes = Buffer.from("00000000002010000000000000001000", "hex");
    for (const parts of [
      [list, block("x"), extra, block("a")],
      [list, block("x"), block("a"), extra],
    ]) {
      const huge = begin((head) => head.command(F.COMMAND_POSTCOPY_ADVISE, sizes)).bytes(Buffer.concat(parts));
      expect(run(onePage(huge)).keys).toEqual([BLOCK_KEYS + 7]);
    }
  });

  test("an observer is told of everything in order", () => {
    const told: unknown[] = [];
    const writer = begin((head) => head.capabilities("c").command(2, Buffer.alloc(4)).packaged(page(1)));
    onePage(writer.blockList([{ name: "a", length: 8 * PAGE }])).footer(5);
    onePage(writer.continued(F.SECTION_END, 5)).footer(5).named(F.SECTION_FULL, 0, "timer", 2);
    const stream = writer.take();
    const segmenter = createQemuSegmenter({
      machine: (type) => told.push(type),
      capability: (name) => told.push(name),
      command: (command, length) => told.push([command, length]),
      section: (section) => told.push(section),
      ramBlock: (name, length) => told.push([name, length]),
      end: (...end) => told.push(end),
    });
    segment(segmenter, stream, [100]);
    expect(told).toEqual([
      "pc",
      "c",
      [2, 4],
      [F.COMMAND_PACKAGED, 4 + PAGE],
      { kind: "start", id: 5, name: "ram", instance: 0, version: 4 },
      ["a", 8 * PAGE],
      { kind: "end", id: 5 },
      { kind: "full", id: 0, name: "timer", instance: 0, version: 2 },
      ["devices", stream.length, undefined],
    ]);
  });

  test("64 capabilities, and names of 255 bytes", () => {
    const writer = createQemuWriter()
      .header()
      .machine("m".repeat(255))
      .capabilities(...new Array<string>(64).fill("c"))
      .named(F.SECTION_START, 5, "ram", F.RAM_VERSION);
    expect(run(onePage(writer)).statistics.pages).toBe(1);
  });

  const nonsense: [string, QemuWriter][] = [
    ["QEVM", createQemuWriter().raw(1, 2, 3, 4, 5, 6, 7, 8)],
    ["2^14 bytes", begin((head) => head.subsection("target-page-bits", Buffer.of(0, 0, 0, 14)))],
    ["mapped-ram", begin((head) => head.capabilities("mapped-ram"))],
    ["subsection", begin((head) => head.subsection("other", page(0)))],
    ["outside", begin((head) => head.command(1).subsection("uuid", page(0)))],
    ["capabilities", begin((head) => head.subsection("capabilities", Buffer.of(1, 0, 0, 0)))],
    ["65 capabilities", begin((head) => head.capabilities(...new Array<string>(65).fill("c")))],
    ["name has", createQemuWriter().header().machine("m".repeat(256))],
    ["package", begin((head) => head.command(F.COMMAND_PACKAGED, Buffer.alloc(5)))],
    ["dirty-bitmap", createQemuWriter().header().named(F.SECTION_START, 1, "dirty-bitmap", 1)],
    ["virtio-mem", createQemuWriter().header().named(F.SECTION_FULL, 1, "virtio-mem", 1)],
    ["version 3", createQemuWriter().header().named(F.SECTION_START, 1, "ram", 3)],
    ["section 9", createQemuWriter().header().continued(F.SECTION_PART, 9)],
    ["footer", begin().record(0, F.RAM_EOS).footer(6)],
    ["twice", begin().record(0, F.RAM_EOS).named(F.SECTION_START, 6, "ram", 4)],
    ["type 0x33", createQemuWriter().header().raw(0x33)],
    ["flags 0x1", begin().record(0, 1, "a")],
    ["flags 0x0", begin().record(0, 0)],
    ["flags 0xa", begin().record(0, F.RAM_ZERO | F.RAM_PAGE)],
    ["no block", begin().record(0, SAME_PAGE)],
    ["names no block", begin().record(0, F.RAM_PAGE, "")],
    ["list", begin().record(PAGE, F.RAM_MEM_SIZE).raw(1, 97, 0, 0, 0, 0, 0, 0, 0x20, 0)],
    [
      "flags 0x808",
      begin()
        .record(0, F.RAM_ZERO, "a")
        .raw(0)
        .record(0, 0x800 | SAME_PAGE),
    ],
    [
      "section 5",
      begin().record(0, F.RAM_EOS).continued(F.SECTION_END, 5).record(0, F.RAM_EOS).continued(F.SECTION_PART, 5),
    ],
    ["encoding", begin().record(0, F.RAM_XBZRLE, "a").raw(2, 0, 0)],
  ];
  test.each(nonsense)("from %s on, everything is a literal", (reason, writer) => {
    const start = writer.take();
    onePage(writer.bytes(start));
    onePage(writer.named(F.SECTION_START, 5, "ram", F.RAM_VERSION));
    const { keys, statistics } = run(writer);
    expect(keys).toEqual([]);
    expect(statistics.state).toBe("lost");
    expect(statistics.lost?.reason).toContain(reason);
    expect(statistics.lost?.offset).toBeGreaterThan(0);
  });
});
