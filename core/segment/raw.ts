import { createBlockCutter } from "./blocks.ts";
import type { SegmentFormat } from "./segmenter.ts";

/** Disk images and anything else that is laid out in blocks: chunks are aligned to the stream's start. */
export const rawFormat: SegmentFormat = { name: "raw", keyed: false, create: createBlockCutter };
