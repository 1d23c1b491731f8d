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

/** What the parts of one stream share. */
interface Context {
  readonly input: Input;
  readonly ram: Ram;
  readonly progress: Progress;
  readonly observer: QemuObserver;
  /** The type of the part before this one. */
  previous: number | undefined;
  /** The id under which RAM was announced, or that of the first section where it was in another stream. */
  ramId: number | undefined;
}

/**
 * Parses a stream up to the point from which everything can only be passed through, and returns there: its end, the
 * devices that follow the RAM of a pre-copy stream (they state no length), or something unknown.
 */
export function* parseStream(input: Input, ram: Ram, progress: Progress, observer: QemuObserver): Parser<void> {
  if (!(yield* parseHead(input, progress))) {
    lose(progress, "it does not begin with QEVM, version 3");
    return;
  }
  const context: Context = { input, ram, progress, observer, previous: undefined, ramId: undefined };
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
    const wrong = yield* parsePart(type, context);
    if (wrong !== undefined) {
      lose(progress, wrong);
      return;
    }
    context.previous = type;
  }
}

/** Whether it is a stream of QEMU's. */
function* parseHead(input: Input, progress: Progress): Parser<boolean> {
  yield F.RESUMED.length;
  const head = Buffer.from(input.field.subarray(0, F.RESUMED.length));
  if (head.equals(F.RESUMED)) {
    // What the machine is, and under which id RAM goes, was in another stream.
    progress.state = "ram";
    yield 2;
    yield* skip(input, input.field.readUInt16BE(0));
    return true;
  }
  yield 8 - head.length;
  const whole = Buffer.concat([head, input.field.subarray(0, 8 - head.length)]);
  return whole.readUInt32BE(0) === F.MAGIC && whole.readUInt32BE(4) === F.VERSION;
}

function lose(progress: Progress, reason: string): void {
  progress.state = "lost";
  progress.reason = reason;
}

/** Parses what follows a type at the top level. Returns what is wrong, if anything is. */
function* parsePart(type: number, context: Context): Parser<string | undefined> {
  const { input, ram, observer, previous } = context;
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
      return yield* parseStart(context);
    case F.SECTION_PART:
    case F.SECTION_END:
      return yield* parseContinued(type, context);
    case F.SECTION_FULL: {
      const section = yield* parseSectionHead(input, "full");
      observer.section?.(section);
      return `the section "${section.name}" comes before the end of RAM and states no length`;
    }
    case F.SECTION_FOOTER:
      yield 4;
      return input.field.readUInt32BE(0) === context.ramId ? undefined : "a footer names another section";
    default:
      return `a section has the unknown type 0x${type.toString(16)}`;
  }
}

function* parseStart(context: Context): Parser<string | undefined> {
  const { input, ram, progress, observer } = context;
  const section = yield* parseSectionHead(input, "start");
  observer.section?.(section);
  if (section.name !== "ram") return `the live section "${section.name}" states no length`;
  if (section.version !== F.RAM_VERSION) return `the section of RAM has the unknown version ${section.version}`;
  if (progress.state !== "setup") return "RAM begins twice";
  progress.state = "ram";
  context.ramId = section.id;
  return yield* parseRecords(input, ram, observer);
}

function* parseContinued(type: number, context: Context): Parser<string | undefined> {
  const { input, ram, progress, observer } = context;
  yield 4;
  const id = input.field.readUInt32BE(0);
  if (progress.state === "ram") context.ramId ??= id;
  if (id !== context.ramId || progress.state !== "ram") return `section ${id} is not that of RAM`;
  observer.section?.({ kind: type === F.SECTION_END ? "end" : "part", id });
  const wrong = yield* parseRecords(input, ram, observer);
  if (type === F.SECTION_END) progress.state = "devices";
  return wrong;
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
