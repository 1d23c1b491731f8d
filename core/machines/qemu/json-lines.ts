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

/** Few lines have integers of which that can be true, and a reviver takes longer than all the rest. */
const LONG_INTEGER = /\d{16}/;

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
  /** The line that has begun, in one piece: it may come byte by byte. */
  #line: Buffer = Buffer.alloc(0);
  #size = 0;

  /** @param most bytes of a line */
  constructor(most = MAX_LINE) {
    this.#most = most;
  }

  /**
   * Calls `each` with the values that are complete. Throws a `ProtocolError` for a line that is no JSON, or is too long; then
   * it is of no more use.
   */
  push(piece: Uint8Array, each: (value: unknown) => void): void {
    let start = 0;
    for (;;) {
      const end = piece.indexOf(NEWLINE, start);
      const part = piece.subarray(start, end < 0 ? piece.length : end);
      this.#append(part);
      if (end < 0) return;
      start = end + 1;
      const line = this.#line.subarray(0, this.#size);
      this.#size = 0;
      const text = line.toString("utf8").trim();
      if (text !== "") each(parse(text, line));
    }
  }

  #append(part: Uint8Array): void {
    const size = this.#size + part.length;
    if (size > this.#most) throw new ProtocolError(`a line has more than ${this.#most} bytes`);
    if (size > this.#line.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(this.#most, Math.max(4096, 2 * size)));
      larger.set(this.#line.subarray(0, this.#size));
      this.#line = larger;
    }
    this.#line.set(part, this.#size);
    this.#size = size;
  }
}

function parse(text: string, line: Uint8Array): unknown {
  try {
    return LONG_INTEGER.test(text) ? JSON.parse(text, revive) : JSON.parse(text);
  } catch (cause) {
    // Not only syntax: what is nested too deeply ends in a RangeError.
    throw new ProtocolError(`a line is not JSON: "${printable(line)}"`, { cause });
  }
}
