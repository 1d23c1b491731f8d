import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { ProtocolError } from "../errors.ts";
import { COLUMN, MAX_BATCH_CONTENTS, OP } from "../wire/numbers.ts";
import { OpReader } from "../wire/ops.ts";
import type { DecodedBatch } from "./batch-decoder.ts";
import type { DestinationSite } from "./site.ts";

/** The contents that a batch names and does not bring: their numbers, and their digests back to back. */
export interface KnownList {
  readonly numbers: number[];
  readonly digests: Buffer;
}

/**
 * What a batch names by digest, or by its number in earlier logs. Throws a `ProtocolError` where its operations are not
 * well-formed.
 * @param past copies the digests of earlier contents
 */
export function listKnown({ header, columns }: DecodedBatch, past: DestinationSite["past"]): KnownList {
  const named = columns[COLUMN.DIGESTS]!;
  const pages = columns[COLUMN.DELTAS]!.length + columns[COLUMN.CONTENTS]!.length + columns[COLUMN.STORED]!.length;
  const numbers: number[] = [];
  const most = header.count - Math.floor(pages / PAGE_SIZE);
  if (most === 0) return { numbers, digests: named };
  const digests = Buffer.alloc(most * DIGEST_SIZE);
  const reader = new OpReader(columns[COLUMN.OPS]!, columns[COLUMN.ARGUMENTS]!, header.first);
  let at = 0;
  for (let next = header.first; reader.next(); ) {
    const { code, run, argument } = reader;
    if (code === OP.DELTA) next++;
    if (code !== OP.NEW && code !== OP.STORED && code !== OP.KNOWN && code !== OP.PAST) continue;
    if (code === OP.KNOWN || code === OP.PAST) {
      if (numbers.length + run > most) throw tooMuch();
      const end = numbers.length * DIGEST_SIZE;
      if (code === OP.PAST) past(argument, run, digests, end);
      else if (at + run * DIGEST_SIZE > named.length) throw tooMuch();
      else at += named.copy(digests, end, at, at + run * DIGEST_SIZE);
      for (let i = 0; i < run; i++) numbers.push(next + i);
    }
    if (run > MAX_BATCH_CONTENTS) throw tooMuch();
    next += run;
  }
  if (at !== named.length || numbers.length !== most) {
    throw new ProtocolError("A batch has more or fewer digests than its operations name");
  }
  return { numbers, digests };
}

export function tooMuch(): ProtocolError {
  return new ProtocolError("A batch's operations stand for more than its header says");
}
