/** Batches, their columns and operations, through every codec. */
import { readFileSync } from "node:fs";
import { constants, zstdCompressSync } from "node:zlib";
import { BatchDecoder, DecodeBuffers } from "../../../core/engine/batch-decoder.ts";
import { checkBounds } from "../../../core/engine/bounds.ts";
import { decodeBatch } from "../../../core/wire/batch.ts";
import { lz4Encoder } from "../../../core/wire/codec/lz4.ts";
import { CODEC, COLUMN, FRAME } from "../../../core/wire/numbers.ts";
import { OpReader } from "../../../core/wire/ops.ts";
import { splitFrames } from "../../core/engine/wire.ts";
import type { Artefact } from "../mutate.ts";
import { ofBytes } from "../parser.ts";

const HEADER = 68;
const DESCRIPTOR = 10;

/** Header, then each column's descriptor and bytes. The encoded length in a descriptor follows what has become of the bytes. */
export function batchArtefact(payload: Buffer): Artefact {
  const { columns } = decodeBatch(payload);
  const parts = [payload.subarray(0, HEADER)];
  columns.forEach(({ parts: [bytes] }, i) => {
    parts.push(payload.subarray(HEADER + i * DESCRIPTOR, HEADER + (i + 1) * DESCRIPTOR), Buffer.from(bytes!));
  });
  return {
    parts,
    join([head = Buffer.alloc(0), ...rest]) {
      const descriptors: Buffer[] = [];
      const bodies: Buffer[] = [];
      for (let i = 0; i < rest.length; i += 2) {
        const descriptor = Buffer.alloc(DESCRIPTOR);
        rest[i]!.copy(descriptor);
        const body = rest[i + 1] ?? Buffer.alloc(0);
        descriptor.writeUInt32LE(body.length, 6);
        descriptors.push(descriptor);
        bodies.push(body);
      }
      const header = Buffer.from(head);
      if (header.length > 5) header.writeUInt8(descriptors.length % 256, 5);
      return Buffer.concat([header, ...descriptors, ...bodies]);
    },
  };
}

const batchesOf = (name: string) =>
  splitFrames(readFileSync(new URL(`../../fixtures/wire-v1/${name}.bin`, import.meta.url)))
    .filter(({ type }) => type === FRAME.BATCH)
    .map(({ payload }) => Buffer.from(payload));
export const recorded = ["operations-none", "operations-lz4", "operations-zstd", "session"].flatMap(batchesOf);

/** A batch of 256 new contents whose column is `bytes`. */
function contents(codec: number, bytes: Uint8Array): Artefact {
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(1, 0);
  for (const [at, value] of [
    [24, 256],
    [28, 256],
    [32, 1 << 20],
  ] as const)
    header.writeUInt32LE(value, at);
  const descriptor = (column: number, codec: number, length: number) => {
    const bytes = Buffer.alloc(DESCRIPTOR);
    bytes.writeUInt8(column, 0);
    bytes.writeUInt8(codec, 1);
    bytes.writeUInt32LE(length, 2);
    return bytes;
  };
  const run = batchArtefact(recorded[0]!);
  const parts = [
    header,
    ...[descriptor(COLUMN.OPS, CODEC.NONE, 1), Buffer.of(0xf1)],
    ...[descriptor(COLUMN.ARGUMENTS, CODEC.NONE, 2), Buffer.of(0xf0, 0x01)],
    ...[descriptor(COLUMN.CONTENTS, codec, 1 << 20), Buffer.from(bytes)],
  ];
  return { parts, join: run.join };
}

const zstd = (bytes: Uint8Array, windowLog: number) =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_windowLog]: windowLog } });
const lz4 = (bytes: Uint8Array) => lz4Encoder.encode(bytes).then(([encoded]) => encoded!);
/** What decompresses to much more than was agreed on, or wants to. */
const bombs = [
  contents(CODEC.ZSTD, zstd(Buffer.alloc(64 << 20), 27)),
  contents(CODEC.ZSTD, zstd(Buffer.alloc(1 << 20), 20)),
  // Two frames, and one behind a frame that is to be skipped.
  contents(CODEC.ZSTD, Buffer.concat([zstd(Buffer.alloc(1 << 19), 20), zstd(Buffer.alloc(1 << 19), 20)])),
  contents(
    CODEC.ZSTD,
    Buffer.concat([Buffer.from("502a4d1804000000aaaaaaaa", "hex"), zstd(Buffer.alloc(1 << 20), 20)]),
  ),
  contents(CODEC.ZSTD, Buffer.from("28b52ffd00b800", "hex")),
  contents(CODEC.LZ4, await lz4(Buffer.alloc(1 << 20))),
  contents(CODEC.LZ4, Buffer.concat([Buffer.of(0, 0, 16, 0), Buffer.alloc(4000, 0xff)])),
];

const buffers = new DecodeBuffers();

/** Decodes a batch twice, as a session would that goes on, and reads its operations. */
async function parse(payload: Buffer): Promise<void> {
  const { header, columns } = decodeBatch(payload);
  checkBounds(header, columns);
  const decoder = new BatchDecoder(20);
  try {
    for (let i = 0; i < 2; i++) {
      const { columns: decoded } = await decoder.decode(header, columns, buffers);
      for (const { column, length } of columns)
        if (decoded[column]!.length !== length) throw new Error(`column ${column} has another length`);
      const ops = new OpReader(decoded[COLUMN.OPS]!, decoded[COLUMN.ARGUMENTS]!, header.first);
      for (let n = 0; ops.next(); n++) if (n > 4096) throw new Error("a batch has more operations than bytes of them");
    }
  } finally {
    decoder.close();
  }
}

export const batchParsers = [
  ofBytes("batches", [...recorded.map(batchArtefact), ...bombs], parse, {
    runs: 500,
  }),
];
