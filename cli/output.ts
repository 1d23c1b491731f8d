import type { ShrinkerError } from "../core/errors.ts";
import { harmless, jsonLine } from "./text.ts";

export interface OutputOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  /** Whether stdout carries a stream or a bundle; then everything else goes to stderr. */
  readonly dataOnStdout: boolean;
}

/** Where a command's words go. Nothing here throws or waits: a reader that has gone is no reason to stop a migration. */
export interface Output {
  readonly json: boolean;
  readonly quiet: boolean;
  /** One JSON object a line, with `--json`. */
  event(event: object): void;
  /** Results for people: nothing with `--json` or `--quiet`. */
  result(lines: readonly string[]): void;
  /** What happens, for people, on stderr: nothing with `--json` or `--quiet`. */
  note(line: string): void;
  /** One line on stderr, and an event. */
  error(error: ShrinkerError): void;
}

type Stream = NodeJS.WriteStream;
const used = new Set<Stream>();
/** What takes nothing any more, and would keep all that is written to it. */
const broken = new Set<Stream>();

/** Writes to one of the process's streams. Never throws. */
export function write(stream: Stream, text: string): void {
  if (broken.has(stream)) return;
  if (!used.has(stream)) {
    used.add(stream);
    // EPIPE, mostly. Without a listener it would end the process.
    stream.on("error", () => {});
  }
  try {
    stream.write(text);
  } catch {
    // Deno throws what it can't write to a file, as on a full disk, and calls nobody back after that.
    broken.add(stream);
    used.delete(stream);
  }
}

/** Where words go by what the user asked for. Everything printed is made harmless here. */
export function createOutput({ json, quiet, dataOnStdout }: OutputOptions): Output {
  // Not looked at before it is needed: it may be the connection (transports/stdout.ts).
  const main = () => (dataOnStdout ? process.stderr : process.stdout);
  const event = (value: object) => {
    if (json) write(main(), `${jsonLine(value)}\n`);
  };
  return {
    json,
    quiet,
    event,
    result(lines) {
      if (!json && !quiet) write(main(), lines.map((line) => `${harmless(line)}\n`).join(""));
    },
    note(line) {
      if (!json && !quiet) write(process.stderr, `${harmless(line)}\n`);
    },
    error(error) {
      event({ type: "error", code: error.code, message: error.message });
      write(process.stderr, `shrinker: ${harmless(error.message)}\n`);
      if (process.env.SHRINKER_DEBUG && error.stack)
        write(
          process.stderr,
          stackOf(error)
            .split("\n")
            .map((line) => `${harmless(line)}\n`)
            .join(""),
        );
    },
  };
}

/** The innermost cause tells where it happened. */
function stackOf(error: Error): string {
  const stack = error.stack ?? "";
  return error.cause instanceof Error ? `${stack}\ncaused by ${stackOf(error.cause)}` : stack;
}

/** Resolves when everything written has left the process, or can't any more. */
export async function flushOutput(): Promise<void> {
  await Promise.all([...used].map((stream) => new Promise((resolve) => stream.write("", resolve))));
}
