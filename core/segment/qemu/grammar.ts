import { parseCommand, parseConfiguration, parseSubsection } from "./announcements.ts";
import * as F from "./format.ts";
import { countedText, type Input, type Parser, skip } from "./input.ts";
import type { QemuObserver, QemuSection, QemuState } from "./observer.ts";
import { parseRecords, type Ram } from "./ram.ts";

/** How far the grammar came; it keeps this up to date while it waits for input. */
export interface Progress {
  state: QemuState;
  /** What was not understood, once `state` is `lost`. */
  reason: string | undefined;
}

/**
 * Parses a stream up to the point from which everything can only be passed through, and returns there: its end, the
 * devices that follow the RAM of a pre-copy stream (they state no length), or something unknown.
 */
export function* parseStream(input: Input, ram: Ram, progress: Progress, observer: QemuObserver): Parser<void> {
  yield 8;
  if (input.field.readUInt32BE(0) !== F.MAGIC || input.field.readUInt32BE(4) !== F.VERSION) {
    lose(progress, "it does not begin with QEVM, version 3");
    return;
  }
  const sections: Sections = { ramId: undefined, lastId: undefined };
  let previous: number | undefined;
  for (;;) {
    yield 1;
    const type = input.field[0] as number;
    if (type === F.EOF) {
      progress.state = "ended";
      yield* parseDescription(input);
      return;
    }
    if (type === F.SECTION_FULL && progress.state === "devices") {
      observer.section?.(yield* parseSectionHead(input, "full"));
      return;
    }
    const wrong = yield* parsePart(type, previous, sections, input, ram, progress, observer);
    if (wrong !== undefined) {
      lose(progress, wrong);
      return;
    }
    previous = type;
  }
}

function lose(progress: Progress, reason: string): void {
  progress.state = "lost";
  progress.reason = reason;
}

interface Sections {
  /** The id under which RAM was announced. */
  ramId: number | undefined;
  /** The section that a footer has to name. */
  lastId: number | undefined;
}

function* parsePart(
  type: number,
  previous: number | undefined,
  sections: Sections,
  input: Input,
  ram: Ram,
  progress: Progress,
  observer: QemuObserver,
): Parser<string | undefined> {
  switch (type) {
    case F.CONFIGURATION:
      return yield* parseConfiguration(input, observer);
    case F.SUBSECTION:
      if (previous !== F.CONFIGURATION && previous !== F.SUBSECTION)
        return "a subsection stands outside a configuration";
      return yield* parseSubsection(input, ram, observer);
    case F.COMMAND:
      return yield* parseCommand(input, ram, observer);
    case F.SECTION_START:
      return yield* parseStart(sections, input, ram, progress, observer);
    case F.SECTION_PART:
    case F.SECTION_END: {
      yield 4;
      const id = input.field.readUInt32BE(0);
      if (id !== sections.ramId || progress.state !== "ram") return `section ${id} is not that of RAM`;
      sections.lastId = id;
      observer.section?.({ kind: type === F.SECTION_END ? "end" : "part", id });
      const wrong = yield* parseRecords(input, ram, observer);
      if (type === F.SECTION_END) progress.state = "devices";
      return wrong;
    }
    case F.SECTION_FULL: {
      const section = yield* parseSectionHead(input, "full");
      observer.section?.(section);
      return `the section "${section.name}" comes before the end of RAM and states no length`;
    }
    case F.SECTION_FOOTER:
      yield 4;
      return input.field.readUInt32BE(0) === sections.lastId ? undefined : "a footer names another section";
    default:
      return `a section has the unknown type 0x${type.toString(16)}`;
  }
}

function* parseStart(
  sections: Sections,
  input: Input,
  ram: Ram,
  progress: Progress,
  observer: QemuObserver,
): Parser<string | undefined> {
  const section = yield* parseSectionHead(input, "start");
  observer.section?.(section);
  if (section.name !== "ram") return `the live section "${section.name}" states no length`;
  if (section.version !== F.RAM_VERSION) return `the section of RAM has the unknown version ${section.version}`;
  if (progress.state !== "setup") return "RAM begins twice";
  progress.state = "ram";
  sections.ramId = sections.lastId = section.id;
  return yield* parseRecords(input, ram, observer);
}

function* parseSectionHead(input: Input, kind: "start" | "full"): Parser<QemuSection> {
  yield 4;
  const id = input.field.readUInt32BE(0);
  const name = yield* countedText(input);
  yield 8;
  return { kind, id, name, instance: input.field.readUInt32BE(0), version: input.field.readUInt32BE(4) };
}

/** The JSON that describes the devices may follow the end. */
function* parseDescription(input: Input): Parser<void> {
  yield 1;
  if (input.field[0] !== F.VMDESCRIPTION) return;
  yield 4;
  yield* skip(input, input.field.readUInt32BE(0));
}
