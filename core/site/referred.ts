import { createReadStream } from "node:fs";
import { ProtocolError } from "../errors.ts";
import { NumberSet } from "../store/number-set.ts";
import { decodeBatch, type EncodedColumn } from "../wire/batch.ts";
import type { ColumnDecoder } from "../wire/codec/codec.ts";
import { zstdDecoder } from "../wire/codec/zstd.ts";
import { FrameReader } from "../wire/frame.ts";
import { CODEC, COLUMN, FRAME, OP, SMALL_WINDOW_LOG } from "../wire/numbers.ts";
import { OpReader } from "../wire/ops.ts";

const READ_BYTES = 1 << 20;
/** Decoded operations and arguments after which they are looked at: many batches together, as each decoding has its way to a thread. */
const JOINED_BYTES = 1 << 20;
const EMPTY = Buffer.alloc(0);

interface Waiting {
  readonly first: number;
  readonly ops: EncodedColumn | undefined;
  readonly args: EncodedColumn | undefined;
}

/**
 * Which contents of a recording are referred to by batches after their own: nobody needs to keep the others. Undefined where
 * the recording can't be read, which whoever receives it will say better. A recording that is another by then can only ask for
 * what was not kept, which is refused.
 */
export async function findReferred(path: string): Promise<NumberSet | undefined> {
  const file = createReadStream(path, { highWaterMark: READ_BYTES });
  const decoders = [zstdDecoder(SMALL_WINDOW_LOG), zstdDecoder(SMALL_WINDOW_LOG)] as const;
  const referred = new NumberSet();
  let waiting: Waiting[] = [];
  let bytes = 0;
  const look = async () => {
    const [ops, args] = await Promise.all([
      decodeJoined(
        decoders[0],
        waiting.map(({ ops }) => ops),
      ),
      decodeJoined(
        decoders[1],
        waiting.map(({ args }) => args),
      ),
    ]);
    waiting.forEach(({ first }, i) => {
      addReferred(referred, first, ops[i]!, args[i]!);
    });
    waiting = [];
    bytes = 0;
  };
  try {
    const reader = new FrameReader(file, path, true);
    await reader.preface();
    let contents = 0;
    for (let frame = await reader.next(); frame; frame = await reader.next()) {
      if (frame.type !== FRAME.BATCH) continue;
      const { header, columns } = decodeBatch(frame.payload);
      if (header.first !== contents) return undefined;
      contents += header.count;
      const ops = columns.find(({ column }) => column === COLUMN.OPS);
      const args = columns.find(({ column }) => column === COLUMN.ARGUMENTS);
      waiting.push({ first: header.first, ops, args });
      bytes += (ops?.length ?? 0) + (args?.length ?? 0);
      if (bytes >= JOINED_BYTES) await look();
    }
    await look();
    return referred;
  } catch {
    return undefined;
  } finally {
    for (const decoder of decoders) decoder.close();
    file.destroy();
  }
}

/** One column of several batches. They are pieces of one zstd stream, so that they are decoded as if they were one. */
async function decodeJoined(
  decoder: ColumnDecoder,
  columns: readonly (EncodedColumn | undefined)[],
): Promise<Buffer[]> {
  const packed = columns.flatMap((column) => (column?.codec === CODEC.ZSTD ? column : []));
  const plain = Buffer.alloc(packed.reduce((sum, { length }) => sum + length, 0));
  if (plain.length > 0) await decoder.decode(Buffer.concat(packed.flatMap(({ parts }) => parts)), plain);
  let at = 0;
  return columns.map((column) => {
    if (!column) return EMPTY;
    const { codec, length, parts } = column;
    if (codec === CODEC.NONE) return Buffer.from(parts[0]!);
    if (codec !== CODEC.ZSTD) throw new ProtocolError(`Operations are encoded with the unexpected codec ${codec}`);
    at += length;
    return plain.subarray(at - length, at);
  });
}

function addReferred(referred: NumberSet, first: number, ops: Buffer, args: Buffer): void {
  const reader = new OpReader(ops, args, first);
  while (reader.next()) {
    const { code, run, argument } = reader;
    if (code !== OP.REF && code !== OP.SAME && code !== OP.DELTA) continue;
    const end = Math.min(first, argument + (code === OP.REF ? run : 1));
    for (let number = Math.max(0, argument); number < end; number++) referred.add(number);
  }
}
