import { ProtocolError } from "../../errors.ts";
import { printable } from "../../wire/bytes.ts";

/** Bytes of one line. QEMU's longest, the schema of its own commands, has a quarter of a megabyte. */
export const MAX_LINE = 4 << 20;
const NEWLINE = 0x0a;

/** What a reviver is told of a value since ECMAScript 2025; Node 20 doesn't. */
interface Context {
  readonly source?: string;
}

/** Integers that a number can't hold become bigints, so that a 64-bit limit can be put back as it was. */
function revive(_key: string, value: unknown, context?: Context): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source ?? "";
  return /^-?\d{1,20}$/.test(source) ? BigInt(source) : value;
}

const { rawJSON } = JSON as { rawJSON?: (text: string) => unknown };

/** JSON on one line; bigints are written as integers. */
export function encodeLine(value: unknown): string {
  const replace = (_key: string, part: unknown) =>
    typeof part !== "bigint" ? part : rawJSON ? rawJSON(`${part}`) : Number(part);
  return `${JSON.stringify(value, replace)}\n`;
}

/** Divides bytes, in whatever pieces they come, into lines, each a JSON value. Empty lines are none. */
export class JsonLines {
  readonly #most: number;
  #parts: Uint8Array[] = [];
  #size = 0;

  /** @param most bytes of a line */
  constructor(most = MAX_LINE) {
    this.#most = most;
  }

  /**
   * Calls `each` with the values that are complete. Throws a `ProtocolError` for a line that is no JSON, or is too long; then
   * it is of no more use.
   * @param piece kept until its last line is complete: nobody may write to it
   */
  push(piece: Uint8Array, each: (value: unknown) => void): void {
    let start = 0;
    for (;;) {
      const end = piece.indexOf(NEWLINE, start);
      const part = piece.subarray(start, end < 0 ? piece.length : end);
      this.#size += part.length;
      if (this.#size > this.#most) throw new ProtocolError(`a line has more than ${this.#most} bytes`);
      if (part.length > 0) this.#parts.push(part);
      if (end < 0) return;
      start = end + 1;
      const line = Buffer.concat(this.#parts);
      this.#parts = [];
      this.#size = 0;
      const text = line.toString("utf8").trim();
      if (text !== "") each(parse(text, line));
    }
  }
}

function parse(text: string, line: Uint8Array): unknown {
  try {
    return JSON.parse(text, revive);
  } catch (cause) {
    // Not only syntax: what is nested too deeply ends in a RangeError.
    throw new ProtocolError(`a line is not JSON: "${printable(line)}"`, { cause });
  }
}
