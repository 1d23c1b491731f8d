/**
 * How the grammar gets its bytes. It is written as generators that yield what they need next, so that a stream may arrive
 * in any pieces; whatever they are given has already been emitted as a literal, except for page contents.
 */
export interface Input {
  /** The field that was asked for, from its first byte. */
  readonly field: Buffer;
  /** Bytes to pass over, for `SKIP`. */
  skip: number;
  /** The place of the page that follows, for `CONTENT`. */
  key: number;
  /** Bytes of the stream that the demands so far have taken. */
  offset: number;
}

/** The longest field: a name whose length is a byte. */
export const MAX_FIELD = 255;

/** A field of 1 to `MAX_FIELD` bytes is asked for by its length; these are the other demands. */
export const SKIP = -1;
/** The header of a RAM record, as a field. Common records need not be given: `walkRecords` may take them first. */
export const RECORD = -2;
/** The 4096 bytes of a page, emitted as a chunk under `input.key`. They are not given to the grammar. */
export const CONTENT = -3;

export type Parser<Result> = Generator<number, Result, void>;

export function createInput(): Input {
  return { field: Buffer.alloc(MAX_FIELD), skip: 0, key: 0, offset: 0 };
}

export function* skip(input: Input, length: number): Parser<void> {
  if (length === 0) return;
  input.skip = length;
  yield SKIP;
}

/**
 * A string of `length` bytes. It may end up on a terminal, so what is not printable ASCII is written `\xNN`, and so is
 * the backslash: different bytes are never the same name.
 */
export function* text(input: Input, length: number): Parser<string> {
  if (length === 0) return "";
  yield length;
  return input.field
    .toString("latin1", 0, length)
    .replace(/[^ -[\]-~]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** A string behind a byte that holds its length. */
export function* countedText(input: Input): Parser<string> {
  yield 1;
  return yield* text(input, input.field[0] as number);
}
