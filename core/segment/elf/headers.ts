import type { Region } from "./regions.ts";

/** Numbers of the format: System V Application Binary Interface, chapters "ELF Header" and "Program Header". */
const MAGIC = 0x7f45_4c46;
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
const TYPE_CORE = 4;
const TYPE_LOAD = 1;
const ELF_HEADER = 64;
const PROGRAM_HEADER = 56;
/** `e_phnum` where there are more headers than it can count. */
const UNCOUNTED = 0xffff;

/** Program headers that begin further in the file are not looked for. */
const MAX_TABLE_OFFSET = 64 << 10;

/** Whether these bytes, at least 18, begin a 64-bit little-endian core file. */
export function isCore(head: Buffer): boolean {
  return (
    head.length >= 18 &&
    head.readUInt32BE(0) === MAGIC &&
    head[4] === CLASS_64 &&
    head[5] === LITTLE_ENDIAN &&
    head.readUInt16LE(16) === TYPE_CORE
  );
}

export interface HeaderReader {
  /** Takes the file's next bytes, `bytes[start, end)`; returns where in them the headers end, or `end`. */
  push(bytes: Uint8Array, start: number, end: number): number;
  /** Whether more bytes are wanted. */
  readonly reading: boolean;
  /** What the headers say of where memory lies in the file, in their order; none where they make no sense. */
  readonly loads: readonly Region[];
  /** No more bytes come; what was read is forgotten. */
  abandon(): void;
}

/** Reads a core's headers as they pass: the file's own, and the table of program headers. */
export function createHeaderReader(): HeaderReader {
  const field = Buffer.alloc(ELF_HEADER);
  const loads: Region[] = [];
  /** The field that comes next begins after `skip` bytes and has `length`, of which `have` came. */
  let skip = 0;
  let length = ELF_HEADER;
  let have = 0;
  let reading = true;
  /** Program headers that are still to come; undefined before the file's own header. */
  let left: number | undefined;

  function readFileHeader(): void {
    const table = Number(field.readBigUInt64LE(32));
    const count = field.readUInt16LE(56);
    const fits = table >= ELF_HEADER && table <= MAX_TABLE_OFFSET;
    if (!isCore(field) || !fits || field.readUInt16LE(54) !== PROGRAM_HEADER || count === UNCOUNTED) {
      reading = false;
      return;
    }
    skip = table - ELF_HEADER;
    length = PROGRAM_HEADER;
    left = count;
  }

  function readProgramHeader(): void {
    const start = Number(field.readBigUInt64LE(8));
    const size = Number(field.readBigUInt64LE(32));
    if (field.readUInt32LE(0) === TYPE_LOAD && size > 0 && Number.isSafeInteger(start + size)) {
      loads.push({ start, end: start + size });
    }
  }

  return {
    push(bytes, start, end) {
      let at = start;
      while (at < end && reading) {
        const skipped = Math.min(skip, end - at);
        skip -= skipped;
        at += skipped;
        const taken = Math.min(length - have, end - at);
        field.set(bytes.subarray(at, at + taken), have);
        at += taken;
        have += taken;
        if (have < length) break;
        have = 0;
        if (left === undefined) readFileHeader();
        else {
          readProgramHeader();
          left--;
        }
        if (left === 0) reading = false;
      }
      return at;
    },
    get reading() {
      return reading;
    },
    loads,
    abandon() {
      reading = false;
      loads.length = 0;
    },
  };
}
