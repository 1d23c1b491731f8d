import { createRamBlocks, pageKey, pageNumber, type RamBlock, type RamBlocks } from "./blocks.ts";
import {
  RAM_COMPRESSED,
  RAM_CONTINUE,
  RAM_EOS,
  RAM_HOOK,
  RAM_MEM_SIZE,
  RAM_MULTIFD_FLUSH,
  RAM_PAGE,
  RAM_XBZRLE,
  RAM_ZERO,
} from "./format.ts";
import { CONTENT, countedText, type Input, type Parser, RECORD, skip, text } from "./input.ts";
import type { QemuObserver } from "./observer.ts";

/** What is known of a stream's RAM. */
export interface Ram {
  readonly blocks: RamBlocks;
  /** The block of the last record; a record with CONTINUE is of the same, also across sections. */
  current: RamBlock | undefined;
  /** The capability x-ignore-shared: the block list also states where each block is mapped. */
  ignoreShared: boolean;
  /** Post-copy with huge pages: the block list also states the page size of some blocks. */
  hugePages: boolean;
  xbzrle: number;
  compressed: number;
}

export function createRam(): Ram {
  return {
    blocks: createRamBlocks(),
    current: undefined,
    ignoreShared: false,
    hugePages: false,
    xbzrle: 0,
    compressed: 0,
  };
}

/** Parses the records of one section of RAM, up to its EOS. Returns what is wrong, if anything is. */
export function* parseRecords(input: Input, ram: Ram, observer: QemuObserver): Parser<string | undefined> {
  let afterBlockList = false;
  for (;;) {
    yield RECORD;
    const flags = input.field.readUInt16BE(6) & 0xfff;
    const kind = flags & ~RAM_CONTINUE;
    if (kind === RAM_EOS) return undefined;
    if (kind === RAM_HOOK || kind === RAM_MULTIFD_FLUSH) continue;
    // The last block's page size looks like a record without flags.
    if (kind === 0 && afterBlockList && ram.hugePages) continue;
    afterBlockList = kind === RAM_MEM_SIZE;
    const wrong = afterBlockList
      ? yield* parseBlockList(input, ram, observer)
      : yield* parsePage(input, ram, kind, (flags & RAM_CONTINUE) !== 0);
    if (wrong !== undefined) return wrong;
  }
}

function* parseBlockList(input: Input, ram: Ram, observer: QemuObserver): Parser<string | undefined> {
  let left = readBe64(input.field) - RAM_MEM_SIZE;
  while (left > 0) {
    yield 1;
    if (ram.hugePages && input.field[0] === 0) {
      // No name is empty, so this is the high byte of the page size of the block before.
      yield 7;
      continue;
    }
    const name = yield* text(input, input.field[0] as number);
    yield 8;
    const length = readBe64(input.field);
    if (name === "" || length > left) return "its list of RAM blocks makes no sense";
    left -= length;
    ram.blocks.find(name).length = length;
    observer.ramBlock?.(name, length);
    if (ram.ignoreShared) yield* skip(input, 8);
  }
  return undefined;
}

function* parsePage(input: Input, ram: Ram, kind: number, same: boolean): Parser<string | undefined> {
  if (kind !== RAM_PAGE && kind !== RAM_ZERO && kind !== RAM_XBZRLE && kind !== RAM_COMPRESSED) {
    return `a RAM record has the unknown flags 0x${kind.toString(16)}`;
  }
  const page = pageNumber(input.field, 0);
  if (!same) {
    const name = yield* countedText(input);
    if (name === "") return "a RAM record names no block";
    ram.current = ram.blocks.find(name);
  }
  const block = ram.current;
  if (!block) return "a RAM record belongs to no block";
  if (kind === RAM_PAGE) {
    block.pages++;
    input.key = pageKey(block.firstKey, page);
    yield CONTENT;
  } else if (kind === RAM_ZERO) {
    block.zeros++;
    yield* skip(input, 1);
  } else if (kind === RAM_XBZRLE) {
    ram.xbzrle++;
    yield 3;
    if (input.field[0] !== 1) return "an XBZRLE record has an unknown encoding";
    yield* skip(input, input.field.readUInt16BE(1));
  } else {
    ram.compressed++;
    yield 4;
    yield* skip(input, input.field.readUInt32BE(0));
  }
  return undefined;
}

/** The be64 at the field's start. Above 2^53 it loses digits, but no guest has such sizes. */
function readBe64(field: Buffer): number {
  return field.readUInt32BE(0) * 2 ** 32 + field.readUInt32BE(4);
}
