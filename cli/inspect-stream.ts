import { PAGE_SIZE } from "../core/content/page.ts";
import { type ContentStatistics, countContents } from "../core/engine/inspect.ts";
import { openImage } from "../core/machines/image/source.ts";
import type { QemuObserver } from "../core/segment/qemu/observer.ts";
import { createQemuSegmenter, type QemuSegmenter } from "../core/segment/qemu.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { table } from "./text.ts";
import { formatBytes, formatShare } from "./units.ts";

/** What the report of one file consists of. */
export interface Report {
  /** For `--json`. */
  readonly event: object;
  /** For people. */
  readonly lines: readonly string[];
  /** What is wrong with the file, where it can't be used. */
  readonly error?: Error;
}

/** A stream from outside may have any number of sections or capabilities: more are counted, not listed. */
const MAX_LISTED = 1000;

/** Reads a raw image or a captured stream. Rejects where it can't be read. */
export async function inspectStream(path: string, format: string | undefined, signal: AbortSignal): Promise<Report> {
  const source = await openImage({ path, digest: false, ...(format && { format }) });
  const { info } = source;
  const notes = collectNotes();
  const qemu = info.format === "qemu" ? createQemuSegmenter(notes.observer) : undefined;
  const contents = await countContents(qemu ?? segmentFormats.get(info.format)!.create(), source.pieces(signal));
  const pages = pagesOf(contents);
  const found = qemu && { ...notes.found, ...qemu.statistics() };
  const event = { type: "inspected", kind: "stream", path, format: info.format, bytes: contents, pages, qemu: found };
  return { event, lines: [...heading(path, info.format, contents), ...(qemu ? qemuLines(notes.found, qemu) : [])] };
}

function pagesOf({ zero, duplicate, distinct }: ContentStatistics) {
  const pages = (bytes: number) => Math.floor(bytes / PAGE_SIZE);
  return { zero: pages(zero), duplicate: pages(duplicate), distinct: pages(distinct) };
}

function heading(path: string, format: string, contents: ContentStatistics): string[] {
  const { plain } = contents;
  const row = (name: string, bytes: number) => [`  ${name}`, formatBytes(bytes), formatShare(bytes, plain)];
  return [
    `${path}: ${format}, ${formatBytes(plain)} (${plain} bytes)`,
    ...table([
      row("zero", contents.zero),
      row("duplicate", contents.duplicate),
      row("distinct", contents.distinct),
      row("other", contents.literal),
    ]),
  ];
}

interface Section {
  readonly id: number;
  readonly name: string;
  readonly instance: number | undefined;
  readonly version: number | undefined;
  /** How often it came: at its start, for each part, and at its end. */
  times: number;
}

/** Writes down what the segmenter tells of a stream. */
function collectNotes() {
  const found = {
    machine: undefined as string | undefined,
    capabilities: [] as string[],
    sections: [] as Section[],
    /** Where the stream is no longer followed, and why, where it is not its end. */
    end: undefined as { state: string; offset: number; reason: string | undefined } | undefined,
  };
  const byId = new Map<number, Section>();
  const observer: QemuObserver = {
    machine(type) {
      found.machine = type;
    },
    capability(name) {
      if (found.capabilities.length < MAX_LISTED) found.capabilities.push(name);
    },
    section({ id, name, instance, version }) {
      const known = byId.get(id);
      if (known) known.times++;
      else if (name !== undefined && byId.size < MAX_LISTED) {
        const section = { id, name, instance, version, times: 1 };
        byId.set(id, section);
        found.sections.push(section);
      }
    },
    end(state, offset, reason) {
      found.end = { state, offset, reason };
    },
  };
  return { found, observer };
}

type Found = ReturnType<typeof collectNotes>["found"];

function qemuLines({ machine, capabilities, sections, end }: Found, segmenter: QemuSegmenter): string[] {
  const { state, lost, blocks, pages, zeroRecords, xbzrle, compressed } = segmenter.statistics();
  const rows = blocks.map(({ name, length, pages, zeros }) => [
    `    ${name}`,
    formatBytes(length),
    String(pages),
    String(zeros),
  ]);
  const hidden = xbzrle + compressed;
  return [
    `  machine ${machine ?? "unknown"}, capabilities: ${capabilities.join(", ") || "none"}`,
    `  sections: ${sections.map(({ name, times }) => (times > 1 ? `${name} (${times})` : name)).join(", ") || "none"}`,
    ...table([["    RAM block", "size", "pages", "zero records"], ...rows]),
    `  ${pages} pages and ${zeroRecords} zero records in all`,
    ...(hidden > 0 ? [`  ${hidden} pages are encoded by QEMU (xbzrle or compress): switch that off to save more`] : []),
    `  ${ending(state, lost?.reason, end?.offset)}`,
  ];
}

function ending(state: string, reason: string | undefined, offset: number | undefined): string {
  const at = offset === undefined ? "" : ` from byte ${offset} on`;
  if (reason !== undefined) return `not understood${at}, and passed through: ${reason}`;
  if (state === "devices") return `devices, which are passed through${at}`;
  return state === "ended" ? "whole" : `cut short in its ${state}`;
}
