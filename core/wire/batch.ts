import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { ProtocolError } from "../errors.ts";
import { getU64, putU64 } from "./bytes.ts";
import { COLUMN, COLUMNS, MAX_BATCH_CONTENTS, MAX_BATCH_PLAIN, MAX_BATCH_SEGMENTS } from "./numbers.ts";

/** What stands before a batch's columns. */
export interface BatchHeader {
  readonly stream: number;
  /** Codec context; only 0 yet. */
  readonly lane: number;
  /** The content number that the batch's first new content takes. */
  readonly first: number;
  /** How many numbers it takes. */
  readonly count: number;
  /** Segments it stands for; with `plain`, its cost in credit. */
  readonly segments: number;
  /** Bytes of literals and chunks it stands for (zeros cost nothing). */
  readonly plain: number;
  /** Content numbers below this are forgotten before the batch is read. */
  readonly forget: number;
  /** The stream's running digest after the batch; 32 bytes. */
  readonly digest: Uint8Array;
}

export interface EncodedColumn {
  readonly column: number;
  readonly codec: number;
  /** Bytes when decoded. */
  readonly length: number;
  /** Encoded bytes, one piece or several. */
  readonly parts: readonly Uint8Array[];
}

const HEADER_BYTES = 68;
const DESCRIPTOR_BYTES = 10;

/** No column decodes to more. */
const COLUMN_LIMITS: readonly number[] = (() => {
  const limits = new Array<number>(COLUMNS);
  limits[COLUMN.OPS] = MAX_BATCH_SEGMENTS;
  limits[COLUMN.ARGUMENTS] = MAX_BATCH_SEGMENTS * 16;
  limits[COLUMN.LITERALS] = MAX_BATCH_PLAIN;
  limits[COLUMN.DELTAS] = MAX_BATCH_CONTENTS * PAGE_SIZE;
  limits[COLUMN.CONTENTS] = MAX_BATCH_CONTENTS * PAGE_SIZE;
  limits[COLUMN.STORED] = MAX_BATCH_CONTENTS * PAGE_SIZE;
  limits[COLUMN.DIGESTS] = MAX_BATCH_CONTENTS * DIGEST_SIZE;
  return limits;
})();

/** The payload of a BATCH frame, in parts. Columns stand in ascending order; empty ones are left out. */
export function encodeBatch(header: BatchHeader, columns: readonly EncodedColumn[]): Uint8Array[] {
  const head = Buffer.alloc(HEADER_BYTES + columns.length * DESCRIPTOR_BYTES);
  head.writeUInt32LE(header.stream, 0);
  head.writeUInt8(header.lane, 4);
  head.writeUInt8(columns.length, 5);
  putU64(head, header.first, 8);
  putU64(head, header.forget, 16);
  head.writeUInt32LE(header.count, 24);
  head.writeUInt32LE(header.segments, 28);
  head.writeUInt32LE(header.plain, 32);
  head.set(header.digest, 36);
  const parts: Uint8Array[] = [head];
  let at = HEADER_BYTES;
  for (const { column, codec, length, parts: encoded } of columns) {
    head.writeUInt8(column, at);
    head.writeUInt8(codec, at + 1);
    head.writeUInt32LE(length, at + 2);
    head.writeUInt32LE(
      encoded.reduce((sum, part) => sum + part.length, 0),
      at + 6,
    );
    at += DESCRIPTOR_BYTES;
    parts.push(...encoded);
  }
  return parts;
}

/** Reads a BATCH payload; the columns are views of it. Throws a `ProtocolError` where a number is out of its bounds. */
export function decodeBatch(payload: Buffer): { header: BatchHeader; columns: EncodedColumn[] } {
  if (payload.length < HEADER_BYTES) throw new ProtocolError("A batch is shorter than its header");
  const header: BatchHeader = {
    stream: payload.readUInt32LE(0),
    lane: payload.readUInt8(4),
    first: getU64(payload, 8),
    forget: getU64(payload, 16),
    count: payload.readUInt32LE(24),
    segments: payload.readUInt32LE(28),
    plain: payload.readUInt32LE(32),
    digest: payload.subarray(36, 36 + DIGEST_SIZE),
  };
  if (payload.readUInt16LE(6) !== 0) throw new ProtocolError("A batch sets bytes that are reserved");
  if (header.lane !== 0) throw new ProtocolError(`A batch uses lane ${header.lane}, which was not negotiated`);
  if (header.count > MAX_BATCH_CONTENTS || header.segments > MAX_BATCH_SEGMENTS || header.plain > MAX_BATCH_PLAIN) {
    throw new ProtocolError(
      `A batch is too large: ${header.count} contents, ${header.segments} segments, ${header.plain} bytes`,
    );
  }
  const descriptors = payload.readUInt8(5);
  let at = HEADER_BYTES;
  let from = HEADER_BYTES + descriptors * DESCRIPTOR_BYTES;
  if (descriptors > COLUMNS || from > payload.length) throw new ProtocolError("A batch has too many columns");
  const columns: EncodedColumn[] = [];
  let last = -1;
  for (let i = 0; i < descriptors; i++, at += DESCRIPTOR_BYTES) {
    const column = payload.readUInt8(at);
    const length = payload.readUInt32LE(at + 2);
    const encoded = payload.readUInt32LE(at + 6);
    if (column <= last || column >= COLUMNS || length === 0 || length > COLUMN_LIMITS[column]!) {
      throw new ProtocolError(`A batch has a bad column: number ${column}, ${length} bytes`);
    }
    if (encoded > payload.length - from) throw new ProtocolError("A batch's column ends behind the batch");
    columns.push({ column, codec: payload.readUInt8(at + 1), length, parts: [payload.subarray(from, from + encoded)] });
    from += encoded;
    last = column;
  }
  if (from !== payload.length) throw new ProtocolError("A batch has bytes behind its last column");
  return { header, columns };
}
