import { PAGE_SIZE } from "../content/page.ts";
import { isZeroPage } from "../content/zero.ts";
import { MAPPED_RAM } from "./qemu/announcements.ts";
import { MAGIC, RECORD_HEADER, VERSION } from "./qemu/format.ts";
import { type Progress, parseStream } from "./qemu/grammar.ts";
import { CONTENT, createInput, RECORD, SKIP } from "./qemu/input.ts";
import type { QemuObserver, QemuStatistics } from "./qemu/observer.ts";
import { createRam } from "./qemu/ram.ts";
import { collectStatistics } from "./qemu/statistics.ts";
import { walkRecords } from "./qemu/walk.ts";
import type { Segmenter, SegmentFormat, SegmentSink } from "./segmenter.ts";

/** A QEMU migration stream or a saved one: pages of RAM are chunks under the key of their place, everything else literals. */
export const qemuFormat: SegmentFormat = {
  name: "qemu",
  keyed: true,
  matches: matchesQemu,
  create: () => createQemuSegmenter(),
};

/** The stream's magic and version. A file with mapped RAM begins alike, but it is laid out in blocks. */
function matchesQemu(head: Uint8Array): boolean {
  const view = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (view.length < 8 || view.readUInt32BE(0) !== MAGIC || view.readUInt32BE(4) !== VERSION) return false;
  return !view.subarray(0, PAGE_SIZE).includes(MAPPED_RAM);
}

export interface QemuSegmenter extends Segmenter {
  /** What the stream held so far. */
  statistics(): QemuStatistics;
}

/** @param observer is told of sections, blocks and the like as they are parsed; for `inspect` */
export function createQemuSegmenter(observer: QemuObserver = {}): QemuSegmenter {
  const input = createInput();
  const ram = createRam();
  const progress: Progress = { state: "setup", reason: undefined };
  const grammar = parseStream(input, ram, progress, observer);
  const walk = { at: 0, emitted: 0 };
  const page = new Uint8Array(PAGE_SIZE);
  /** What the grammar waits for; 0 once it has returned and everything is passed through. */
  let demand = 0;
  /** Bytes that the demand is for, and how many of them came. */
  let needed = 0;
  let have = 0;

  function proceed(offset: number): void {
    input.offset = offset;
    have = 0;
    const next = grammar.next();
    demand = next.done ? 0 : next.value;
    if (next.done) observer.end?.(progress.state, offset, progress.reason);
    else if (demand === SKIP) needed = input.skip;
    else if (demand === CONTENT) needed = PAGE_SIZE;
    else needed = demand === RECORD ? RECORD_HEADER : demand;
  }
  proceed(0);

  function emitPage(bytes: Uint8Array, start: number, sink: SegmentSink): void {
    if (isZeroPage(bytes, start)) sink.zero(PAGE_SIZE);
    else sink.chunk(bytes, start, input.key);
  }

  /** Takes some or all of the page's bytes from `walk.at` on. It is copied only where pieces divide it. */
  function takeContent(bytes: Uint8Array, taken: number, sink: SegmentSink): void {
    const start = walk.at;
    if (walk.emitted < start) sink.literal(bytes, walk.emitted, start);
    if (taken === PAGE_SIZE) emitPage(bytes, start, sink);
    else {
      page.set(bytes.subarray(start, start + taken), have);
      if (have + taken === PAGE_SIZE) emitPage(page, 0, sink);
    }
    walk.emitted = start + taken;
  }

  let pieceOffset = 0;
  return {
    push(bytes, start, end, sink) {
      walk.at = walk.emitted = start;
      while (walk.at < end) {
        if (demand === 0) walk.at = end;
        else {
          if (demand === RECORD && have === 0) walkRecords(walk, bytes, end, ram, sink);
          const taken = Math.min(needed - have, end - walk.at);
          if (demand === CONTENT) takeContent(bytes, taken, sink);
          else if (demand !== SKIP) input.field.set(bytes.subarray(walk.at, walk.at + taken), have);
          walk.at += taken;
          have += taken;
          if (have === needed) proceed(pieceOffset + walk.at - start);
        }
      }
      if (walk.emitted < end) sink.literal(bytes, walk.emitted, end);
      pieceOffset += end - start;
    },

    flush(sink) {
      if (demand !== CONTENT || have === 0) return;
      sink.literal(page, 0, have);
      // What is left of the page passes as literals too; then the grammar goes on as if it had been emitted.
      demand = SKIP;
      needed = PAGE_SIZE - have;
      have = 0;
    },

    statistics: () => collectStatistics(ram, progress, input.offset),
  };
}
