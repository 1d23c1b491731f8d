/** Control characters, half surrogate pairs, and what breaks a line or turns the direction of writing. */
const UNSAFE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/** A text that may come from a peer or a file, on one line and without anything that a terminal would obey. */
export function harmless(text: string): string {
  return text.replace(UNSAFE, (unsafe) => `\\u{${unsafe.codePointAt(0)!.toString(16)}}`);
}

/** A value as one line of JSON; what `JSON.stringify` leaves of control characters is escaped, which JSON allows. */
export function jsonLine(value: unknown): string {
  const escaped = (unsafe: string) => `\\u${unsafe.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value).replace(UNSAFE, escaped);
}

/** Rows as columns that are as wide as they have to be: the first to the left, the others to the right. */
export function table(rows: readonly (readonly string[])[], left = 1): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, i) => (i < left ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
}
