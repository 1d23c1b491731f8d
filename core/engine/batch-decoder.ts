import { PAGE_SIZE } from "../content/page.ts";
import { ProtocolError } from "../errors.ts";
import type { BatchHeader, EncodedColumn } from "../wire/batch.ts";
import { asBuffer } from "../wire/bytes.ts";
import type { ColumnDecoder } from "../wire/codec/codec.ts";
import { lz4Decoder } from "../wire/codec/lz4.ts";
import { checkPlainLength, noneDecoder } from "../wire/codec/none.ts";
import { zstdDecoder } from "../wire/codec/zstd.ts";
import { CODEC, COLUMN, COLUMNS, MAX_BATCH_CONTENTS, SMALL_WINDOW_LOG } from "../wire/numbers.ts";

/** A batch whose columns are decoded, in buffers that are used again once it is resolved. */
export interface DecodedBatch {
  readonly header: BatchHeader;
  /** By column; empty where the batch has none. That of the XORs is aligned to 4 bytes. */
  readonly columns: readonly Buffer[];
}

const EMPTY = Buffer.alloc(0);
const PAGE_COLUMNS: readonly number[] = [COLUMN.DELTAS, COLUMN.CONTENTS, COLUMN.STORED];

/** Buffers for the page columns of one batch. */
export class DecodeBuffers {
  readonly #pages: (Buffer | undefined)[] = [];

  take(column: number, length: number): Buffer {
    if (!PAGE_COLUMNS.includes(column)) return Buffer.allocUnsafeSlow(length);
    this.#pages[column] ??= Buffer.allocUnsafeSlow(MAX_BATCH_CONTENTS * PAGE_SIZE);
    return this.#pages[column].subarray(0, length);
  }
}

/** A column that is not compressed needs no place of its own. */
function plainColumn(bytes: Uint8Array, length: number): Buffer {
  checkPlainLength(bytes, length);
  return asBuffer(bytes);
}

/** Decodes batches in order, with one decompression stream a column. */
export class BatchDecoder {
  readonly #zstd: readonly ColumnDecoder[];

  /** @param windowLog window of the contents, as negotiated */
  constructor(windowLog: number) {
    this.#zstd = Array.from({ length: COLUMNS }, (_, column) =>
      zstdDecoder(column === COLUMN.CONTENTS ? windowLog : SMALL_WINDOW_LOG),
    );
  }

  async decode(header: BatchHeader, encoded: readonly EncodedColumn[], buffers: DecodeBuffers): Promise<DecodedBatch> {
    const columns = new Array<Buffer>(COLUMNS).fill(EMPTY);
    await Promise.all(
      encoded.map(({ column, codec, length, parts }) => {
        if (codec === CODEC.NONE && column !== COLUMN.DELTAS) {
          columns[column] = plainColumn(parts[0]!, length);
          return undefined;
        }
        const target = buffers.take(column, length);
        columns[column] = target;
        return this.#decoder(column, codec).decode(parts[0]!, target);
      }),
    );
    return { header, columns };
  }

  close(): void {
    for (const decoder of this.#zstd) decoder.close();
  }

  #decoder(column: number, codec: number): ColumnDecoder {
    if (codec === CODEC.NONE) return noneDecoder;
    if (codec === CODEC.LZ4) return lz4Decoder;
    if (codec === CODEC.ZSTD) return this.#zstd[column]!;
    throw new ProtocolError(`A batch's column is encoded with an unknown codec, ${codec}`);
  }
}
