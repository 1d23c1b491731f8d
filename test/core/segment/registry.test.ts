import { describe, expect, test } from "bun:test";
import { segmentFormats, sniffFormat } from "../../../core/segment/registry.ts";
import { MAX_HELD } from "../../../core/segment/segmenter.ts";
import { coreHeaders } from "../../support/elf-core.ts";
import { createQemuWriter } from "../../support/qemu-writer.ts";

describe("formats", () => {
  test("each is found under its own name and makes segmenters that share nothing", () => {
    // The tests of each fail where it holds back more (recorder.ts).
    expect(MAX_HELD).toBe(8192);
    expect([...segmentFormats.keys()].sort()).toEqual(["bytes", "elf", "nbd", "qemu", "raw"]);
    for (const [name, format] of segmentFormats) {
      expect(format.name).toBe(name);
      expect(format.create()).not.toBe(format.create());
    }
  });

  test("a file is told by its beginning", () => {
    const stream = createQemuWriter().header().machine("pc").take();
    expect(sniffFormat(stream)).toBe("qemu");
    expect(sniffFormat(stream.subarray(0, 8))).toBe("qemu");
    expect(sniffFormat(Uint8Array.from(stream))).toBe("qemu");
    expect(sniffFormat(coreHeaders([]))).toBe("elf");
    expect(sniffFormat(stream.subarray(0, 7))).toBe("raw");
    expect(sniffFormat(coreHeaders([]).subarray(0, 8))).toBe("raw");
    expect(sniffFormat(Buffer.from("QEVM\0\0\0\x02"))).toBe("raw");
    expect(sniffFormat(Buffer.alloc(0))).toBe("raw");
    expect(sniffFormat(Buffer.from("QFI\xfb\0\0\0\x03", "latin1"))).toBe("raw");
  });

  test("a file with mapped RAM keeps its pages in blocks", () => {
    const mapped = createQemuWriter().header().machine("pc").capabilities("mapped-ram").take();
    expect(sniffFormat(mapped)).toBe("raw");
  });
});
