import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE } from "../content/page.ts";
import { type EncodedColumn, encodeBatch } from "../wire/batch.ts";
import type { ColumnEncoder } from "../wire/codec/codec.ts";
import { lz4Encoder } from "../wire/codec/lz4.ts";
import { noneEncoder } from "../wire/codec/none.ts";
import { zstdEncoder } from "../wire/codec/zstd.ts";
import { CODEC, COLUMN, COLUMNS, OP, SMALL_WINDOW_LOG } from "../wire/numbers.ts";
import type { Batch } from "./batch.ts";

/** A column shorter than this is not worth a codec's header. */
const MIN_ENCODED = 48;
const CONTENT_LEVEL = 3;
const DELTA_LEVEL = 3;
/** Operations, arguments and literals are a few percent of the input, so a slower level costs nothing. */
const SMALL_LEVEL = 6;

/** Encodes batches in order, with one compression stream a column. */
export class BatchEncoder {
  readonly #zstd: readonly (ColumnEncoder | undefined)[];

  /** @param windowLog window of the contents, as negotiated */
  constructor(windowLog: number) {
    const zstd = new Array<ColumnEncoder | undefined>(COLUMNS).fill(undefined);
    zstd[COLUMN.CONTENTS] = zstdEncoder({ level: CONTENT_LEVEL, windowLog });
    zstd[COLUMN.DELTAS] = zstdEncoder({ level: DELTA_LEVEL, windowLog: SMALL_WINDOW_LOG });
    for (const column of [COLUMN.OPS, COLUMN.ARGUMENTS, COLUMN.LITERALS]) {
      zstd[column] = zstdEncoder({ level: SMALL_LEVEL, windowLog: SMALL_WINDOW_LOG });
    }
    this.#zstd = zstd;
  }

  /**
   * The payload of the batch's frame. It may refer to the batch's buffers: it is to be sent before the batch is reset.
   * @param digest the stream's running digest after the batch
   * @param codec of `CODEC`, for the columns that hold pages
   */
  async encode(batch: Batch, digest: Uint8Array, codec: number): Promise<Uint8Array[]> {
    const columns: Promise<EncodedColumn>[] = [];
    const add = (column: number, bytes: Uint8Array) => {
      if (bytes.length > 0) columns.push(this.#column(column, bytes, codec));
    };
    add(COLUMN.OPS, batch.ops.ops);
    add(COLUMN.ARGUMENTS, batch.ops.args);
    add(COLUMN.LITERALS, batch.literals);
    if (batch.deltaCount > 0)
      add(COLUMN.DELTAS, new Uint8Array(batch.deltaWords.buffer, 0, batch.deltaCount * PAGE_SIZE));
    add(COLUMN.CONTENTS, this.#pages(batch, OP.NEW));
    add(COLUMN.STORED, this.#pages(batch, OP.STORED));
    add(COLUMN.DIGESTS, knownDigests(batch));
    const { stream, first, count, segments, plain, forget } = batch;
    return encodeBatch({ stream, lane: 0, first, count, segments, plain, forget, digest }, await Promise.all(columns));
  }

  close(): void {
    for (const encoder of this.#zstd) encoder?.close();
  }

  async #column(column: number, bytes: Uint8Array, codec: number): Promise<EncodedColumn> {
    let used: number = codec;
    if (bytes.length < MIN_ENCODED || column === COLUMN.STORED || column === COLUMN.DIGESTS) used = CODEC.NONE;
    else if (codec === CODEC.LZ4 && (column === COLUMN.OPS || column === COLUMN.ARGUMENTS)) used = CODEC.ZSTD;
    const encoder = used === CODEC.ZSTD ? this.#zstd[column]! : used === CODEC.LZ4 ? lz4Encoder : noneEncoder;
    return { column, codec: used, length: bytes.length, parts: await encoder.encode(bytes) };
  }

  /** The contents of one kind, back to back; copied only where other kinds lie between them. */
  #pages(batch: Batch, kind: number): Uint8Array {
    let count = 0;
    for (let slot = 0; slot < batch.count; slot++) if (batch.kinds[slot] === kind) count++;
    if (count === batch.count) return batch.contents.subarray(0, count * PAGE_SIZE);
    if (count === 0) return batch.contents.subarray(0, 0);
    const gathered = batch.gathered(kind);
    let at = 0;
    for (let slot = 0; slot < batch.count; slot++) {
      if (batch.kinds[slot] === kind) at += batch.contents.copy(gathered, at, slot * PAGE_SIZE, (slot + 1) * PAGE_SIZE);
    }
    return gathered.subarray(0, at);
  }
}

function knownDigests(batch: Batch): Uint8Array {
  const slots: number[] = [];
  for (let slot = 0; slot < batch.count; slot++) if (batch.kinds[slot] === OP.KNOWN) slots.push(slot);
  const words = new Int32Array(slots.length * DIGEST_WORDS);
  for (let i = 0; i < slots.length; i++) batch.copyDigest(slots[i]!, words, i * DIGEST_WORDS);
  return new Uint8Array(words.buffer, 0, slots.length * DIGEST_SIZE);
}
