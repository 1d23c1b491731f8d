import { DIGEST_SIZE, DIGEST_WORDS } from "../content/page.ts";
import type { PastContents } from "../engine/site.ts";
import { ProtocolError, type ShrinkerError } from "../errors.ts";
import { DigestTable } from "../index/digest-table.ts";
import { LogReader, listLogs } from "../store/content-log.ts";
import { MAX_PAST_LOGS } from "../wire/numbers.ts";

/** Contents of the logs that are used: 128 MiB of digests, and at a source 200 MB in RAM. */
export const MAX_PAST_CONTENTS = 1 << 22;

/**
 * Opens the latest logs of a folder, within the bounds, the latest first; of the one that reaches beyond them, as much as fits.
 * Those that are damaged, or can't be read, are passed over: they only help.
 * @param most contents of all together
 */
export async function openLogs(folder: string, most = MAX_PAST_CONTENTS): Promise<LogReader[]> {
  const logs: LogReader[] = [];
  let left = most;
  for (const { path } of await listLogs(folder)) {
    if (logs.length === MAX_PAST_LOGS || left === 0) break;
    const log = openLog(path, left);
    if (!log) continue;
    left -= log.length;
    if (log.length > 0) logs.push(log);
    else log.close();
  }
  return logs;
}

function openLog(path: string, most: number): LogReader | undefined {
  try {
    return LogReader.open(path, most);
  } catch (error) {
    if ((error as ShrinkerError).code !== "input") throw error;
    return undefined;
  }
}

/**
 * Copies the digests of `[first, first + count)`, counted through all logs, to `target` at `at`. Throws a `ProtocolError`
 * where the logs don't have them.
 */
export function readPast(
  logs: readonly LogReader[],
  first: number,
  count: number,
  target: Uint8Array,
  at: number,
): void {
  let base = 0;
  let done = 0;
  for (const log of logs) {
    const from = first + done - base;
    if (from >= 0 && from < log.length && done < count) {
      const part = Math.min(count - done, log.length - from);
      log.read(from, part, target, at + done * DIGEST_SIZE);
      done += part;
    }
    base += log.length;
  }
  if (done < count)
    throw new ProtocolError(`The peer refers to content ${first} of earlier sessions, which is not known here`);
}

const READ = 256;
/** Runs of numbers that the latest log has and the others don't, or the other way round. */
const MAX_PARTS = 1 << 16;

/**
 * The contents of a destination's logs, as far as they are logged here as well: what several logs have counts once, under
 * its number in the latest of them, for there its neighbours are most likely those that are asked for next.
 * @param theirs sessions and lengths, as the destination counts them
 * @param ours logs of the same sessions, or some of them
 * @param most contents, and runs of numbers, that are used
 */
export async function pastContents(
  theirs: readonly { session: Uint8Array; length: number }[],
  ours: readonly LogReader[],
  most = { contents: MAX_PAST_CONTENTS, parts: MAX_PARTS },
): Promise<{ contents: PastContents; count: number } | undefined> {
  const table = new DigestTable();
  const parts = new NumberMap();
  const words = new Int32Array(READ * DIGEST_WORDS);
  const bytes = new Uint8Array(words.buffer);
  let base = 0;
  for (const { session, length } of theirs) {
    const log = ours.find((own) => Buffer.compare(own.session, session) === 0);
    const both = Math.min(length, log?.length ?? 0);
    for (let first = 0; log && first < both; first += READ) {
      const count = Math.min(READ, both - first);
      if (table.next + count > most.contents || parts.count >= most.parts) break;
      log.read(first, count, bytes, 0);
      for (let i = 0; i < count; i++) {
        if (table.find(words, i * DIGEST_WORDS) >= 0) continue;
        parts.note(table.add(words, i * DIGEST_WORDS), base + first + i);
      }
      // Signs of life go out between the blocks of a long log.
      if (first % (64 * READ) === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    base += length;
  }
  if (table.next === 0) return undefined;
  const contents: PastContents = {
    find(digests, at) {
      const number = table.find(digests, at);
      return number < 0 ? -1 : parts.get(number);
    },
  };
  return { contents, count: table.next };
}

/** Maps ascending numbers to others, by runs in which both ascend together. */
class NumberMap {
  readonly #from: number[] = [];
  readonly #to: number[] = [];

  get count(): number {
    return this.#from.length;
  }

  note(from: number, to: number): void {
    const last = this.#from.length - 1;
    if (last >= 0 && to - this.#to[last]! === from - this.#from[last]!) return;
    this.#from.push(from);
    this.#to.push(to);
  }

  get(number: number): number {
    let low = 0;
    let high = this.#from.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#from[middle]! <= number) low = middle + 1;
      else high = middle;
    }
    return number - this.#from[low - 1]! + this.#to[low - 1]!;
  }
}
