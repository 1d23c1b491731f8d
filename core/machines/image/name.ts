import { ShrinkerError } from "../../errors.ts";
import { PARTIAL_SUFFIX } from "../../files/aside.ts";

/** What spools are called. */
const SPOOL_PREFIX = ".shrinker-";
const MAX_BYTES = 255;
/** Control characters, half surrogate pairs, and what breaks a line or turns the direction of writing: they would garble messages. */
const UNSAFE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/** A text from outside as it may be shown in a message: quoted, on one line, and not longer than a line. */
function quote(text: string): string {
  const short = text.length > 80 ? text.slice(0, 80) + "…" : text;
  return `"${short.replace(UNSAFE, (unsafe) => `\\u{${unsafe.codePointAt(0)!.toString(16)}}`)}"`;
}

function fault(name: string): string | undefined {
  if (name === "") return "it is empty";
  if (name === "." || name === "..") return "it is a folder";
  if (name.includes("/")) return "it contains a /";
  if (name.search(UNSAFE) >= 0) return "it contains control characters";
  if (Buffer.byteLength(name) > MAX_BYTES) return `it is longer than ${MAX_BYTES} bytes`;
  if (name.startsWith(SPOOL_PREFIX) || name.endsWith(PARTIAL_SUFFIX)) return "such names are kept for unfinished files";
  return undefined;
}

/**
 * Returns the name of a stream if it can be that of a file in a folder, and nothing else.
 * Throws a `ShrinkerError("refused")` otherwise: the name may come from the peer.
 */
export function checkStreamName(name: string): string {
  const why = fault(name);
  if (why) throw new ShrinkerError("refused", `The name ${quote(name)} is refused: ${why}; give another as NAME=PATH`);
  return name;
}

/** A machine as the user wrote it. */
export interface NamedSpec {
  readonly name?: string;
  /** A path, `-`, or an address such as `qmp:SOCKET`. */
  readonly spec: string;
}

/**
 * Splits `NAME=SPEC`, or takes all of the text as the machine. What stands before the first `=` is a name unless it
 * contains `/`, `:` or `?`; so `./a=b` is a path, and `fake:vm?memory=1G` an address. Standard input, `-`, is called
 * `stdin` unless it is named. Throws `usage`, or `refused` for a name that can't be one.
 */
export function parseMachine(text: string): NamedSpec {
  const at = text.indexOf("=");
  const named = at >= 0 && !/[/:?]/.test(text.slice(0, at));
  const spec = named ? text.slice(at + 1) : text;
  if (spec === "") throw new ShrinkerError("usage", `No machine in ${quote(text)}: expected PATH or NAME=PATH`);
  if (named) return { name: checkStreamName(text.slice(0, at)), spec };
  return spec === "-" ? { name: "stdin", spec } : { spec };
}
