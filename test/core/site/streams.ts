/** Streams of which every page is known, for counting. */
import { createHash } from "node:crypto";
import type { Piece, StreamInfo } from "../../../core/machines/machine.ts";
import * as F from "../../../core/segment/qemu/format.ts";
import { createQemuWriter } from "../../support/qemu-writer.ts";
import { text } from "../engine/contents.ts";

export const PAGE = 4096;
export const ZERO = -1;

/** Pages by number; `ZERO` is a page of zeros. */
export function pages(...numbers: readonly number[]): Buffer {
  return Buffer.concat(numbers.map((n) => (n === ZERO ? Buffer.alloc(PAGE) : text(n))));
}

export function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

export function digestOf(n: number): Buffer {
  return createHash("sha256").update(text(n)).digest();
}

/** A stream of QEMU: pages by their addresses, in the order in which they are sent, behind a machine's name of that length. */
export function qemuPages(records: readonly (readonly [address: number, content: number])[], name = 10): Buffer {
  const writer = createQemuWriter().header().machine("m".repeat(name));
  writer.named(F.SECTION_START, 2, "ram", F.RAM_VERSION).blockList([{ name: "pc.ram", length: 1024 * PAGE }]);
  writer.record(0, F.RAM_EOS).footer(2).continued(F.SECTION_PART, 2);
  for (const [page, content] of records) writer.record(page * PAGE, F.RAM_PAGE, "pc.ram").bytes(text(content));
  return writer.record(0, F.RAM_EOS).footer(2).raw(F.EOF).take();
}

export interface TestStream {
  readonly info: StreamInfo;
  pieces(): AsyncIterable<Piece>;
}

/** A stream in pieces of some length. */
export function stream(format: string, bytes: Buffer, { name = "disk", piece = 50_000 } = {}): TestStream {
  return {
    info: { name, format },
    async *pieces() {
      for (let at = 0; at < bytes.length; at += piece) yield { bytes: new Uint8Array(bytes.subarray(at, at + piece)) };
    },
  };
}
