import { ShrinkerError } from "../errors.ts";

/** The files that say who may be talked to: a line for each, words apart by spaces, `#` begins a comment. */

/** Bytes of such a file. */
export const MAX_PEER_FILE = 1 << 20;
const MAX_LINES = 10_000;
const MAX_LINE = 4096;

/**
 * The words of each line that has any, with its number. Throws `input` for what breaks the bounds.
 * @param path for messages
 */
export function* peerLines(
  text: string,
  path: string,
): Generator<{ words: string[]; wrong: (why: string) => ShrinkerError }> {
  const lines = text.split("\n");
  if (text.length > MAX_PEER_FILE || lines.length > MAX_LINES)
    throw new ShrinkerError("input", `Cannot use "${path}": it may have ${MAX_LINES} lines, and 1 MiB`);
  for (const [i, line] of lines.entries()) {
    const wrong = (why: string) => new ShrinkerError("input", `Cannot use "${path}", line ${i + 1}: ${why}`);
    if (line.length > MAX_LINE) throw wrong(`it is longer than ${MAX_LINE} characters`);
    const words = line
      .replace(/(^|\s)#.*$/, "")
      .split(/\s+/)
      .filter(Boolean);
    if (words.length > 0) yield { words, wrong };
  }
}
