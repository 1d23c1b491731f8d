import { PAGE_SIZE } from "../core/content/page.ts";
import { type Counters, noCounters } from "../core/engine/counters.ts";
import type { ShrinkerError } from "../core/errors.ts";
import type { Fate } from "./exit.ts";
import { table } from "./text.ts";
import { formatBytes, formatRate, formatSeconds, formatShare } from "./units.ts";

/** One stream of a summary; what is not known of a stream that failed is missing. */
export interface StreamSummary extends Fate {
  readonly format?: string;
  /** The running digest, and the SHA-256 of the plain bytes; both in hexadecimal. */
  readonly digest?: string;
  readonly sha256?: string;
  readonly bytes?: ReturnType<typeof bytesOf>;
}

export interface SessionSummary {
  readonly counters: Counters;
  /** Bytes that crossed the link in both directions, or that the bundle has. */
  readonly wire: number;
  readonly seconds: number;
  readonly streams: readonly StreamSummary[];
  readonly error: ShrinkerError | undefined;
  /** What only one of the ends, or one of the ways, has. */
  readonly more?: object;
}

/** What a command that ended before any session has to sum up. */
export function emptySummary(error: ShrinkerError | undefined): SessionSummary {
  return { counters: noCounters(), wire: 0, seconds: 0, streams: [], error };
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function bytesOf({ plain, zero, deduplicated, fresh, literal, delta }: Counters) {
  return { plain, zero, deduplicated, new: fresh, literal, delta };
}

function pagesOf({ zero, deduplicated, fresh, literal, delta }: Counters) {
  const pages = (bytes: number) => Math.floor(bytes / PAGE_SIZE);
  return { zero: pages(zero), deduplicated: pages(deduplicated), new: pages(fresh - literal), delta: pages(delta) };
}

/** What `--json` says of a session, apart from its type. */
export function sessionEvent({ counters, wire, seconds, streams, error, more }: SessionSummary): object {
  return {
    ok: !error,
    ...(error && { code: error.code, message: error.message }),
    ...more,
    bytes: { ...bytesOf(counters), wire },
    pages: pagesOf(counters),
    seconds: Math.round(seconds * 1000) / 1000,
    streams,
  };
}

const HEADING = ["stream", "format", "plain", "zero", "deduplicated", "new", ""];

/** The same for people: a row a stream, the sum unless there is one, and what the link carried. */
export function sessionTable({ counters, wire, seconds, streams }: SessionSummary, wireName = "on the wire"): string[] {
  const row = (name: string, format: string, bytes: ReturnType<typeof bytesOf>, note: string) => [
    name,
    format,
    ...[bytes.plain, bytes.zero, bytes.deduplicated, bytes.new].map(formatBytes),
    note,
  ];
  const rows = streams.map(({ name, format = "", bytes = bytesOf(noCounters()), error }) =>
    row(name, format, bytes, error ? `failed (${error.code})` : ""),
  );
  if (streams.length !== 1) rows.push(row("all", "", bytesOf(counters), ""));
  const share = formatShare(wire, counters.plain);
  return [
    ...table([HEADING, ...rows], 2),
    `${formatBytes(wire)} ${wireName}, ${share} of plain, in ${formatSeconds(seconds)}: ${formatRate(
      counters.plain / Math.max(seconds, 0.001),
    )} of plain`,
  ];
}
