import { unreadable } from "../core/units.ts";

export { parseRate, parseSize } from "../core/units.ts";

const AGES: Record<string, number> = { s: 1e3, min: 60e3, h: 3600e3, d: 86_400e3, w: 604_800e3 };
const MAX_TIMER = 2 ** 31 - 1;
/** A hundred years: beyond any that is meant. */
const MAX_AGE = 36_525 * 86_400e3;

/**
 * Milliseconds: `45s`, `90min`, `12h`, `30d` and `2w`, or `0`. Throws `usage` for anything else, also for `5m`, which could be
 * minutes or months, and for more than a hundred years.
 */
export function parseAge(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(s|min|h|d|w)$/.exec(text.trim());
  const age = text.trim() === "0" ? 0 : match ? Math.round(Number(match[1]) * AGES[match[2]!]!) : Number.NaN;
  if (!(age <= MAX_AGE)) throw unreadable(text, "an age such as 30d, 12h or 90min");
  return age;
}

/** Milliseconds: `300ms`, `5s`, `2min`, `1h`. Throws `usage` for anything else, for 0, and for more than 24 days. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|min|h)$/.exec(text.trim());
  const ms = match ? Math.round(Number(match[1]) * ({ ms: 1, ...AGES }[match[2]!] ?? 0)) : 0;
  // What a timer takes.
  if (ms < 1 || ms > MAX_TIMER) throw unreadable(text, "a duration such as 300ms, 5s or 2min");
  return ms;
}

/** A whole number in [1, most]. Throws `usage` for anything else. */
export function parseCount(text: string, most: number): number {
  const count = /^\d{1,9}$/.test(text.trim()) ? Number(text) : 0;
  if (count < 1 || count > most) throw unreadable(text, `a whole number from 1 to ${most}`);
  return count;
}

/** `12 B`, `4.10 kB`, `592.9 MB`: powers of 1000, three or four digits. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  const units = ["kB", "MB", "GB", "TB", "PB"];
  let value = bytes;
  let unit = -1;
  do {
    value /= 1000;
    unit++;
  } while (value >= 999.95 && unit < units.length - 1);
  return `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (value: number) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** `20.6 %`; nothing of nothing is 0. */
export function formatShare(part: number, whole: number): string {
  return `${(whole === 0 ? 0 : (100 * part) / whole).toFixed(1)} %`;
}

/** `2026-01-31 08:05 UTC`, of milliseconds since 1970. */
export function formatTime(time: number): string {
  return `${new Date(time).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
