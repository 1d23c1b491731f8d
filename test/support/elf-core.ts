/** ELF cores, right ones and others, for tests. */

export interface ProgramHeader {
  /** 1, `PT_LOAD`, unless given. */
  readonly type?: number;
  readonly offset: number | bigint;
  readonly size: number | bigint;
}

export interface CoreOptions {
  /** Where the table of program headers is said to be; it is written behind the file's header. */
  readonly tableOffset?: number | bigint;
  readonly entrySize?: number;
  readonly count?: number;
}

export const FILE_HEADER = 64;
export const PROGRAM_HEADER = 56;

/** The file's header and its program headers. */
export function coreHeaders(headers: readonly ProgramHeader[], options: CoreOptions = {}): Buffer {
  const { tableOffset = FILE_HEADER, entrySize = PROGRAM_HEADER, count = headers.length } = options;
  const bytes = Buffer.alloc(FILE_HEADER + headers.length * PROGRAM_HEADER);
  bytes.write("\x7fELF\x02\x01\x01", "latin1");
  bytes.writeUInt16LE(4, 16);
  bytes.writeUInt16LE(62, 18);
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(BigInt(tableOffset), 32);
  bytes.writeUInt16LE(FILE_HEADER, 52);
  bytes.writeUInt16LE(entrySize, 54);
  bytes.writeUInt16LE(count, 56);
  for (const [i, { type = 1, offset, size }] of headers.entries()) {
    const at = FILE_HEADER + i * PROGRAM_HEADER;
    bytes.writeUInt32LE(type, at);
    bytes.writeBigUInt64LE(BigInt(offset), at + 8);
    bytes.writeBigUInt64LE(BigInt(size), at + 32);
  }
  return bytes;
}

export interface Part {
  /** Bytes before the part that belong to no memory. */
  readonly gap: number;
  readonly memory: Buffer;
}

/**
 * A core with a note and these parts of memory, each after a gap, and `tail` bytes that belong to none.
 * @param order in which the program headers name the parts
 */
export function core(parts: readonly Part[], tail = 0, order: readonly number[] = parts.map((_, i) => i)) {
  const table = FILE_HEADER + (parts.length + 1) * PROGRAM_HEADER;
  const offsets: number[] = [];
  const body: Buffer[] = [];
  let at = table;
  for (const { gap, memory } of parts) {
    body.push(Buffer.alloc(gap, "gap"), memory);
    offsets.push(at + gap);
    at += gap + memory.length;
  }
  const loads = order.map((i) => ({ offset: offsets[i]!, size: parts[i]!.memory.length }));
  const headers = coreHeaders([{ type: 4, offset: table, size: parts[0]?.gap ?? 0 }, ...loads]);
  return { bytes: Buffer.concat([headers, ...body, Buffer.alloc(tail, "tail")]), offsets };
}
