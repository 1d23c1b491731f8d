import { PAGE_SIZE } from "../../content/page.ts";
import { ShrinkerError } from "../../errors.ts";
import { type Fault, parseFault } from "./faults.ts";

export const PATTERNS = ["counter", "text", "random"] as const;
/** What a rewrite leaves in a page: a few changed bytes, new words, or new random bytes. */
export type Pattern = (typeof PATTERNS)[number];

/** A fake VM, as it is before it starts. All sizes are bytes and whole pages. */
export interface FakeSpec {
  readonly name: string;
  readonly memory: number;
  /** How much memory the guest rewrites in a second. */
  readonly dirty: number;
  readonly pattern: Pattern;
  /** The image from which the guest has the rest of its memory; guests of one image share those contents. */
  readonly base: string;
  /** Memory that no other guest has, unless its seed and pattern are alike. */
  readonly private: number;
  /** The part of the memory that holds zeros, 0 to 1. */
  readonly zero: number;
  /** What of the private memory the guest rewrites, over and over. */
  readonly workingSet: number;
  /** A whole number below 2^32. */
  readonly seed: number;
  /** The size of the disk that the VM is said to have; 0 for none. */
  readonly disk: number;
  /** Passes over memory after which an outgoing migration ends whatever is left; 0 for QEMU's way, which is never. */
  readonly rounds: number;
  readonly faults: readonly Fault[];
}

const MIB = 2 ** 20;
/** Bounds what a destination may have to hold. */
const MAX_MEMORY = 16 * 2 ** 30;
const MAX_NAME = 200;
/** Bytes a second: what one processor can write. */
const MAX_DIRTY = 2 ** 30;
const MAX_FAULTS = 16;

/** A parameter of a spec, as the query of a `fake:` machine and the command's options have it. */
export const FAKE_PARAMETERS = [
  "memory",
  "dirty",
  "pattern",
  "base",
  "private",
  "zero",
  "working-set",
  "seed",
  "disk",
  "rounds",
  "fail",
] as const;
export type FakeParameter = (typeof FAKE_PARAMETERS)[number];

export interface FakeReaders {
  /** Reads a size such as `256M`, in bytes; throws `usage`. */
  size(text: string): number;
}

/** A name, and the texts of parameters by theirs; several only of `fail`. */
export interface FakeTexts {
  readonly name: string;
  readonly values: ReadonlyMap<FakeParameter, readonly string[]>;
}

/**
 * Reads `NAME` or `NAME?memory=256M&dirty=8M&fail=die@round:2&...`, with `%XX` for what stands for something else there.
 * Throws `usage` for an unknown parameter, one that is given twice (but `fail`), or a value that makes no sense.
 */
export function parseFakeSpec(text: string, readers: FakeReaders): FakeSpec {
  return readFakeSpec(splitFakeSpec(text), readers);
}

/** Takes such a text apart, without a look at the values. Throws as `parseFakeSpec` does. */
export function splitFakeSpec(text: string): FakeTexts {
  const at = text.indexOf("?");
  const [name, query] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  const values = new Map<FakeParameter, string[]>();
  for (const part of query.split("&")) {
    if (part === "") continue;
    const [key = "", ...rest] = part.split("=");
    const parameter = FAKE_PARAMETERS.find((known) => known === key);
    if (!parameter) throw usage(`Unknown parameter "${key}" of fake VM "${name}": use ${FAKE_PARAMETERS.join(", ")}`);
    const given = values.get(parameter);
    if (given && parameter !== "fail") throw usage(`Parameter "${key}" of fake VM "${name}" is given twice`);
    values.set(parameter, [...(given ?? []), decode(rest.join("="))]);
  }
  return { name, values };
}

/** Makes a spec of texts. Throws `usage`, naming the parameter. */
export function readFakeSpec({ name, values }: FakeTexts, readers: FakeReaders): FakeSpec {
  const read = <T>(parameter: FakeParameter, parse: (text: string) => T): T | undefined => {
    const text = values.get(parameter)?.[0];
    if (text === undefined) return undefined;
    try {
      return parse(text);
    } catch (error) {
      throw new ShrinkerError("usage", `${parameter} of fake VM "${name}": ${(error as Error).message}`, {
        cause: error,
      });
    }
  };
  const size = (text: string) => (text.trim() === "0" ? 0 : readers.size(text));
  const given = {
    memory: read("memory", size),
    dirty: read("dirty", size),
    pattern: read("pattern", (text) => choose(text, PATTERNS)),
    base: read("base", (text) => text),
    private: read("private", size),
    zero: read("zero", readShare),
    workingSet: read("working-set", size),
    seed: read("seed", (text) => readWhole(text, 2 ** 32 - 1)),
    disk: read("disk", size),
    rounds: read("rounds", (text) => readWhole(text, 1000)),
    faults: (values.get("fail") ?? []).map(parseFault),
  };
  const stated = Object.entries(given).filter(([, value]) => value !== undefined);
  return fakeSpec(name, Object.fromEntries(stated));
}

/**
 * A spec of what is given, with defaults for the rest: 256 MiB of memory, half of it zeros and an eighth private, of which
 * half is rewritten at 1 MiB a second. Throws `usage` where the parts don't fit together.
 */
export function fakeSpec(name: string, given: Partial<Omit<FakeSpec, "name">> = {}): FakeSpec {
  const memory = given.memory ?? 256 * MIB;
  const fail = (message: string) => usage(`Cannot make the fake VM "${name}": ${message}`);
  if (name === "" || Buffer.byteLength(name) > MAX_NAME || /[\p{Cc}/]/u.test(name))
    throw usage(
      `Cannot call a fake VM "${name}": expected 1 to ${MAX_NAME} bytes without slashes and control characters`,
    );
  if (!(memory >= MIB && memory <= MAX_MEMORY) || memory % MIB !== 0)
    throw fail(`memory is ${memory} bytes: expected whole MiB, at least 1M and at most 16G`);
  const zero = given.zero ?? 0.5;
  const own = given.private ?? pages(Math.min(memory / 8, (1 - zero) * memory));
  const spec: FakeSpec = {
    name,
    memory,
    dirty: given.dirty ?? MIB,
    pattern: given.pattern ?? "counter",
    base: given.base ?? "base",
    private: own,
    zero,
    workingSet: given.workingSet ?? pages(own / 2),
    seed: given.seed ?? 1,
    disk: given.disk ?? 0,
    rounds: given.rounds ?? 0,
    faults: given.faults ?? [],
  };
  for (const [what, value] of [
    ["private", spec.private],
    ["working-set", spec.workingSet],
    ["disk", spec.disk],
  ] as const)
    if (value % PAGE_SIZE !== 0 || value < 0) throw fail(`${what} is ${value} bytes: expected whole pages of 4096`);
  if (!(zero >= 0 && zero <= 1)) throw fail(`zero is ${zero}: expected a share from 0 to 1`);
  if (!(Number.isInteger(spec.dirty) && spec.dirty >= 0 && spec.dirty <= MAX_DIRTY))
    throw fail(`dirty is ${spec.dirty}: expected bytes a second, at most 1G`);
  if (spec.private + pages(zero * memory) > memory)
    throw fail("private memory and zeros are together more than its memory: lower private or zero");
  if (spec.workingSet > spec.private) throw fail("the working set is more than the private memory: raise private");
  if (Buffer.byteLength(spec.base) > MAX_NAME) throw fail(`the name of its base has more than ${MAX_NAME} bytes`);
  if (!Number.isInteger(spec.seed) || spec.seed < 0 || spec.seed >= 2 ** 32) throw fail(`seed is ${spec.seed}`);
  if (spec.faults.length > MAX_FAULTS) throw fail(`it has more than ${MAX_FAULTS} faults`);
  return spec;
}

/** Bytes, rounded down to whole pages. */
export function pages(bytes: number): number {
  return Math.floor(bytes / PAGE_SIZE) * PAGE_SIZE;
}

function usage(message: string): ShrinkerError {
  return new ShrinkerError("usage", message);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new ShrinkerError("usage", `Cannot read "${text}": a % stands before two hexadecimal digits`, {
      cause: error,
    });
  }
}

export function choose<T extends string>(text: string, names: readonly T[]): T {
  const found = names.find((name) => name === text);
  if (!found) throw usage(`Cannot parse "${text}": expected one of ${names.join(", ")}`);
  return found;
}

function readShare(text: string): number {
  const share = /^\d(\.\d{1,9})?$/.test(text) ? Number(text) : 2;
  if (share > 1) throw usage(`Cannot parse "${text}": expected a share such as 0.5`);
  return share;
}

export function readWhole(text: string, most: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : -1;
  if (value < 0 || value > most) throw usage(`Cannot parse "${text}": expected a whole number up to ${most}`);
  return value;
}
