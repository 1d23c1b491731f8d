import { COMMAND_PACKAGED, COMMAND_POSTCOPY_ADVISE, PAGE_BITS } from "./format.ts";
import { countedText, type Input, MAX_FIELD, type Parser, skip, text } from "./input.ts";
import type { QemuObserver } from "./observer.ts";
import type { Ram } from "./ram.ts";

/** More capabilities than QEMU has bits for. */
const MAX_CAPABILITIES = 64;

/** Files with this capability keep pages at fixed places, not in records. */
export const MAPPED_RAM = "mapped-ram";

export function* parseConfiguration(input: Input, observer: QemuObserver): Parser<string | undefined> {
  yield 4;
  const length = input.field.readUInt32BE(0);
  if (length > MAX_FIELD) return `the machine's name has ${length} bytes`;
  const machine = yield* text(input, length);
  observer.machine?.(machine);
  return undefined;
}

/** A part of the configuration; what it holds is known only by its name. */
export function* parseSubsection(input: Input, ram: Ram, observer: QemuObserver): Parser<string | undefined> {
  const name = yield* countedText(input);
  yield 4; // its version
  if (name === "configuration/target-page-bits") {
    yield 4;
    const bits = input.field.readUInt32BE(0);
    return bits === PAGE_BITS ? undefined : `its pages have 2^${bits} bytes instead of 4096`;
  }
  if (name === "configuration/uuid") {
    yield* skip(input, 16);
    return undefined;
  }
  if (name === "configuration/capabilities") return yield* parseCapabilities(input, ram, observer);
  return `the subsection "${name}" is unknown`;
}

function* parseCapabilities(input: Input, ram: Ram, observer: QemuObserver): Parser<string | undefined> {
  yield 4;
  const count = input.field.readUInt32BE(0);
  if (count > MAX_CAPABILITIES) return `it lists ${count} capabilities`;
  for (let i = 0; i < count; i++) {
    const name = yield* countedText(input);
    observer.capability?.(name);
    if (name === MAPPED_RAM) return "its pages are at fixed places of a file (mapped-ram)";
    if (name === "x-ignore-shared") ram.ignoreShared = true;
  }
  return undefined;
}

export function* parseCommand(input: Input, ram: Ram, observer: QemuObserver): Parser<string | undefined> {
  yield 4;
  const command = input.field.readUInt16BE(0);
  const length = input.field.readUInt16BE(2);
  if (command === COMMAND_PACKAGED) {
    if (length !== 4) return `a package states its length in ${length} bytes`;
    yield 4;
    const packaged = input.field.readUInt32BE(0);
    observer.command?.(command, length + packaged);
    yield* skip(input, packaged);
    return undefined;
  }
  observer.command?.(command, length);
  if (command === COMMAND_POSTCOPY_ADVISE && length === 16) {
    // The page sizes of all blocks, ORed: more than one bit, or another than 4096, and the block list will name some.
    yield 16;
    ram.hugePages = input.field.readUInt32BE(0) !== 0 || input.field.readUInt32BE(4) !== 1 << PAGE_BITS;
  } else yield* skip(input, length);
  return undefined;
}
