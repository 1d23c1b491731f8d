import { compareBytes } from "../content/compare.ts";
import { PREFIX_SIZE, PrefixTable } from "../index/prefix-table.ts";

/** Merges two runs into one; of a digest that both have, `newer`'s place counts. Takes the memory of all three. */
export function mergeRuns(older: PrefixTable, newer: PrefixTable): PrefixTable {
  const payload = older.payloadSize;
  const size = PREFIX_SIZE + payload;
  const a = older.records;
  const b = newer.records;
  const merged = new Uint8Array(a.byteLength + b.byteLength);
  let end = 0;
  let i = 0;
  let j = 0;
  while (i < a.byteLength && j < b.byteLength) {
    const order = compareBytes(a, i, b, j, PREFIX_SIZE);
    // A run of records of one side is copied at once.
    if (order < 0) {
      const from = i;
      do i += size;
      while (i < a.byteLength && compareBytes(a, i, b, j, PREFIX_SIZE) < 0);
      merged.set(a.subarray(from, i), end);
      end += i - from;
    } else {
      merged.set(b.subarray(j, j + size), end);
      end += size;
      j += size;
      if (order === 0) i += size;
    }
  }
  merged.set(a.subarray(i), end);
  end += a.byteLength - i;
  merged.set(b.subarray(j), end);
  end += b.byteLength - j;
  return new PrefixTable(end === merged.byteLength ? merged : merged.slice(0, end), payload);
}
