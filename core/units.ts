import { ShrinkerError } from "./errors.ts";

const BINARY: Record<string, number> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const DECIMAL: Record<string, number> = { "": 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12 };

/** What a text is refused with that says no size, rate, or time. */
export function unreadable(text: string, expected: string): ShrinkerError {
  return new ShrinkerError("usage", `Cannot parse "${text}": expected ${expected}`);
}

/**
 * Bytes: `4096`, `512M` and `512MiB` (powers of 1024), `512MB` (powers of 1000). Throws `usage` for anything else, for 0
 * and for more than 2^53 - 1.
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(i?B)?$/i.exec(text.trim());
  const prefix = match?.[2]?.toUpperCase() ?? "";
  const units = match?.[3]?.toUpperCase() === "B" ? DECIMAL : BINARY;
  const size = match && Math.floor(Number(match[1]) * units[prefix]!);
  if (!size || !Number.isSafeInteger(size)) throw unreadable(text, "a size such as 512M or 4GiB");
  return size;
}

/**
 * Bytes a second, of a rate in bits (`100Mbit`: powers of 1000) or bytes (`12.5MB`: powers of 1000, `12MiB`: of 1024),
 * with or without `/s`. Throws `usage` for anything else, also for `100M`, which could be either, and for 0.
 */
export function parseRate(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kKMGT]?)(i?)(bit|B)(?:\/s|ps)?$/.exec(text.trim());
  const prefix = match?.[2]?.toUpperCase() ?? "";
  const rate = match && (Number(match[1]) * (match[3] ? BINARY : DECIMAL)[prefix]!) / (match[4] === "bit" ? 8 : 1);
  if (!rate || !Number.isFinite(rate)) throw unreadable(text, "a rate such as 100Mbit (bits) or 12.5MB (bytes)");
  return rate;
}
