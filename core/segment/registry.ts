import { bytesFormat } from "./bytes.ts";
import { elfFormat } from "./elf.ts";
import { nbdFormat } from "./nbd.ts";
import { qemuFormat } from "./qemu.ts";
import { rawFormat } from "./raw.ts";
import type { SegmentFormat } from "./segmenter.ts";

/** Every format by its name. A new one is a file and an entry here. */
export const segmentFormats: ReadonlyMap<string, SegmentFormat> = new Map(
  [rawFormat, qemuFormat, elfFormat, nbdFormat, bytesFormat].map((format) => [format.name, format]),
);

/**
 * The format of a file by its beginning; what is not known is laid out in blocks, as disk images are.
 * @param head the first bytes: at least 8 unless the file is shorter, and a few hundred to recognise every variant
 */
export function sniffFormat(head: Uint8Array): "qemu" | "elf" | "raw" {
  if (qemuFormat.matches?.(head)) return "qemu";
  return elfFormat.matches?.(head) ? "elf" : "raw";
}
