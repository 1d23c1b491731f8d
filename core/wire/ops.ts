import { ProtocolError } from "../errors.ts";
import { OP } from "./numbers.ts";

/** The low bits of an op are its code, the high bits its run length minus one; the last value says that an argument has the rest. */
const RUN_SHIFT = 4;
const LONG_RUN = 15;

/** Writes operations as two byte columns: codes with run lengths, and arguments as variable-length integers. */
export class OpWriter {
  readonly #ops: Buffer;
  readonly #args: Buffer;
  #opsEnd = 0;
  #argsEnd = 0;
  #code = -1;
  #run = 0;
  #argument = 0;
  /** Content number that a REF or SAME most likely names. */
  #nextRef = 0;
  #nextBase = 0;
  #nextPast = 0;

  /** @param most operations that will be written at most between two calls of `reset` */
  constructor(most: number) {
    this.#ops = Buffer.alloc(most);
    // An operation has at most two arguments, of 8 bytes each.
    this.#args = Buffer.alloc(most * 16);
  }

  get ops(): Buffer {
    return this.#ops.subarray(0, this.#opsEnd);
  }

  get args(): Buffer {
    return this.#args.subarray(0, this.#argsEnd);
  }

  /** Starts a batch whose first content number is `first`. */
  reset(first: number): void {
    this.#opsEnd = 0;
    this.#argsEnd = 0;
    this.#code = -1;
    this.#nextRef = first;
    this.#nextBase = first;
    this.#nextPast = 0;
  }

  literal(length: number): void {
    this.#put(OP.LITERAL, 1);
    this.#varint(length);
  }

  zero(length: number): void {
    this.#put(OP.ZERO, 1);
    this.#varint(length);
  }

  /** One content that takes the next number: `OP.NEW`, `OP.STORED` or `OP.KNOWN`. */
  content(code: number): void {
    if (this.#code === code) {
      this.#run++;
      return;
    }
    this.#flushRun();
    this.#code = code;
    this.#run = 1;
  }

  delta(base: number): void {
    this.#put(OP.DELTA, 1);
    this.#signed(base - this.#nextBase);
    this.#nextBase = base + 1;
  }

  ref(number: number): void {
    if (this.#code === OP.REF || this.#code === OP.SAME) {
      const stride = number - this.#argument;
      // A run of one may become either; `#argument` is its last number.
      if (this.#run === 1 && stride === 0) this.#code = OP.SAME;
      if (stride === (this.#code === OP.REF ? 1 : 0)) {
        this.#run++;
        this.#argument = number;
        return;
      }
    }
    this.#flushRun();
    this.#code = OP.REF;
    this.#run = 1;
    this.#argument = number;
  }

  /** A content that takes the next number, by its number in the logs of earlier sessions. */
  past(number: number): void {
    if (this.#code === OP.PAST && number === this.#argument + 1) {
      this.#run++;
      this.#argument = number;
      return;
    }
    this.#flushRun();
    this.#code = OP.PAST;
    this.#run = 1;
    this.#argument = number;
  }

  /** Writes what is held back; no operation may follow before `reset`. */
  finish(): void {
    this.#flushRun();
  }

  #flushRun(): void {
    const code = this.#code;
    if (code < 0) return;
    this.#code = -1;
    this.#put(code, this.#run);
    if (code === OP.REF || code === OP.SAME) {
      const last = this.#argument;
      const start = code === OP.REF ? last - this.#run + 1 : last;
      this.#signed(start - this.#nextRef);
      this.#nextRef = last + 1;
    } else if (code === OP.PAST) {
      this.#signed(this.#argument - this.#run + 1 - this.#nextPast);
      this.#nextPast = this.#argument + 1;
    }
  }

  #put(code: number, run: number): void {
    if (this.#code >= 0) this.#flushRun();
    const short = Math.min(run - 1, LONG_RUN);
    this.#ops[this.#opsEnd++] = code | (short << RUN_SHIFT);
    if (short === LONG_RUN) this.#varint(run - 1 - LONG_RUN);
  }

  #signed(value: number): void {
    this.#varint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  /** LEB128, for whole numbers up to 2^53. */
  #varint(value: number): void {
    let rest = value;
    while (rest > 127) {
      this.#args[this.#argsEnd++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.#args[this.#argsEnd++] = rest;
  }
}

/** Reads operations, one at a time, into its fields. Throws a `ProtocolError` for what makes no sense by itself. */
export class OpReader {
  readonly #ops: Uint8Array;
  readonly #args: Uint8Array;
  #opsAt = 0;
  #argsAt = 0;
  #nextRef: number;
  #nextBase: number;
  #nextPast = 0;
  /** The operation's code, of `OP`. */
  code = 0;
  /** How many contents it stands for; 1 for LITERAL and ZERO. */
  run = 0;
  /** Length of LITERAL and ZERO, first number of REF, SAME and PAST, base of DELTA. */
  argument = 0;

  constructor(ops: Uint8Array, args: Uint8Array, first: number) {
    this.#ops = ops;
    this.#args = args;
    this.#nextRef = first;
    this.#nextBase = first;
  }

  /** Whether there was another operation. */
  next(): boolean {
    if (this.#opsAt === this.#ops.length) {
      if (this.#argsAt !== this.#args.length) throw new ProtocolError("A batch has arguments that no operation takes");
      return false;
    }
    const op = this.#ops[this.#opsAt++]!;
    this.code = op & ((1 << RUN_SHIFT) - 1);
    this.run = (op >> RUN_SHIFT) + 1;
    if (this.run === LONG_RUN + 1) this.run += this.#varint();
    this.argument = 0;
    switch (this.code) {
      case OP.LITERAL:
      case OP.ZERO:
        this.argument = this.#varint();
        if (this.run !== 1 || this.argument === 0) throw new ProtocolError("A batch has an empty or repeated segment");
        break;
      case OP.REF:
        this.argument = this.#nextRef + this.#signed();
        this.#nextRef = this.argument + this.run;
        break;
      case OP.SAME:
        this.argument = this.#nextRef + this.#signed();
        this.#nextRef = this.argument + 1;
        break;
      case OP.DELTA:
        if (this.run !== 1) throw new ProtocolError("A batch repeats a DELTA");
        this.argument = this.#nextBase + this.#signed();
        this.#nextBase = this.argument + 1;
        break;
      case OP.PAST:
        this.argument = this.#nextPast + this.#signed();
        this.#nextPast = this.argument + this.run;
        break;
      case OP.NEW:
      case OP.STORED:
      case OP.KNOWN:
        break;
      default:
        throw new ProtocolError(`A batch has an unknown operation, ${this.code}`);
    }
    return true;
  }

  #signed(): number {
    const value = this.#varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  #varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      if (this.#argsAt === this.#args.length) throw new ProtocolError("A batch lacks an argument");
      const byte = this.#args[this.#argsAt++]!;
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
      scale *= 128;
    }
    throw new ProtocolError("A batch has a number that is too large");
  }
}
