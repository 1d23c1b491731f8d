import { open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { fileError, IntegrityError, ShrinkerError } from "../errors.ts";
import { writeWhole } from "../files/whole.ts";
import { isSorted, PREFIX_SIZE, PrefixTable } from "../index/prefix-table.ts";
import { readAt } from "./pack.ts";

/** A place in a run: u16 pack, u16 slot in its group, u32 offset of the group; little-endian. */
export const PLACE_BYTES = 8;
const RECORD = PREFIX_SIZE + PLACE_BYTES;
const MAGIC = Uint8Array.of(0x89, 0x53, 0x48, 0x52, 0x49, 0x0d, 0x0a, 0x1a);
const VERSION = 1;
/** Magic, u16 version, u16 zero, u32 packs, u32 count, u32 CRC-32 of the records, u32 CRC-32 of all else. */
const HEADER = 28;
/** u32 pack, u32 end. */
const COVERED = 8;
const MAX_COVERED = 0x1_0000;

/** A sorted run of digests, and of which groups they are. */
export interface Run {
  /** It stands for the additions from `from` to `to`, both counted from 1. */
  readonly from: number;
  readonly to: number;
  /** Up to where each pack's groups are in this run, or in those before it. */
  readonly covered: ReadonlyMap<number, number>;
  readonly table: PrefixTable;
}

export function runName({ from, to }: { from: number; to: number }): string {
  return `${from}-${to}.run`;
}

export function runRange(name: string): { from: number; to: number } | undefined {
  const match = /^(\d{1,15})-(\d{1,15})\.run$/.exec(name);
  if (!match) return undefined;
  const range = { from: Number(match[1]), to: Number(match[2]) };
  return range.from >= 1 && range.from <= range.to && runName(range) === name ? range : undefined;
}

/** A run without its place among others. */
export type RunContents = Pick<Run, "covered" | "table">;

/** Writes a run so that it lasts before it has its name. */
export async function writeRun(path: string, { covered, table }: RunContents): Promise<void> {
  const head = Buffer.alloc(HEADER + covered.size * COVERED);
  head.set(MAGIC);
  head.writeUInt16LE(VERSION, 8);
  head.writeUInt32LE(covered.size, 12);
  head.writeUInt32LE(table.count, 16);
  head.writeUInt32LE(crc32(table.records), 20);
  let at = HEADER;
  for (const [pack, end] of covered) {
    head.writeUInt32LE(pack, at);
    head.writeUInt32LE(end, at + 4);
    at += COVERED;
  }
  head.writeUInt32LE(checksum(head), 24);
  await writeWhole(path, [head, table.records]);
}

/** Rejects with an `IntegrityError` where anything is not as it was written, `refused` for another version. */
export async function readRun(path: string): Promise<RunContents> {
  await using handle = await open(path, "r").catch((error) => {
    throw fileError("Cannot read", path, error);
  });
  const { size } = await handle.stat();
  const header = await readAt(handle, path, 0, HEADER);
  const packs = header.length === HEADER ? header.readUInt32LE(12) : 0;
  const count = header.length === HEADER ? header.readUInt32LE(16) : 0;
  const headLength = HEADER + packs * COVERED;
  if (Buffer.compare(header.subarray(0, 8), MAGIC) !== 0 || packs > MAX_COVERED || headLength + count * RECORD !== size)
    throw damaged(path);
  const head = Buffer.concat([header, await readAt(handle, path, HEADER, packs * COVERED)]);
  if (head.length !== headLength || head.readUInt32LE(24) !== checksum(head)) throw damaged(path);
  if (head.readUInt16LE(8) !== VERSION)
    throw new ShrinkerError("refused", `"${path}" is of another version: use the release that wrote it`);
  const records = await readAt(handle, path, headLength, count * RECORD);
  if (records.byteLength !== count * RECORD || crc32(records) !== head.readUInt32LE(20)) throw damaged(path);
  if (!isSorted(records, PLACE_BYTES)) throw damaged(path);
  const covered = new Map<number, number>();
  for (let at = HEADER; at < headLength; at += COVERED) covered.set(head.readUInt32LE(at), head.readUInt32LE(at + 4));
  return { covered, table: new PrefixTable(records, PLACE_BYTES) };
}

function checksum(head: Buffer): number {
  return crc32(head.subarray(HEADER), crc32(head.subarray(0, 24)));
}

function damaged(path: string): IntegrityError {
  return new IntegrityError(`"${path}" is damaged; the index is made again from the packs`);
}
