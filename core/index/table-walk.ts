import { compareBytes } from "../content/compare.ts";
import { PREFIX_SIZE, PrefixTable } from "./prefix-table.ts";

/**
 * Told of one prefix: `tables` of them have it, which are the first of `holders`, in no order; it stands at `records[at]`.
 * `holders` is used again.
 */
type Visit = (holders: Uint32Array, tables: number, records: Uint8Array, at: number) => void;

/**
 * Goes through several tables at once, each prefix once and in ascending order: a merge by a binary heap of the tables' next
 * records (Knuth, TAOCP 3, 5.4.1). Takes a few bytes a table.
 */
export function walkTables(tables: readonly PrefixTable[], visit: Visit): void {
  const sizes = tables.map(({ payloadSize }) => PREFIX_SIZE + payloadSize);
  const at = new Float64Array(tables.length);
  const heap = new Uint32Array(tables.length);
  const holders = new Uint32Array(tables.length);
  let left = 0;
  const order = (a: number, b: number) =>
    compareBytes(tables[a]!.records, at[a]!, tables[b]!.records, at[b]!, PREFIX_SIZE);
  /** Puts a table where it belongs, from `slot` downwards. */
  const sift = (table: number, slot: number) => {
    let hole = slot;
    for (let child = 2 * hole + 1; child < left; child = 2 * hole + 1) {
      if (child + 1 < left && order(heap[child + 1]!, heap[child]!) < 0) child++;
      if (order(table, heap[child]!) <= 0) break;
      heap[hole] = heap[child]!;
      hole = child;
    }
    heap[hole] = table;
  };

  for (let i = 0; i < tables.length; i++) if (tables[i]!.count > 0) heap[left++] = i;
  for (let slot = left - 1; slot >= 0; slot--) sift(heap[slot]!, slot);
  while (left > 0) {
    const first = heap[0]!;
    const { records } = tables[first]!;
    const place = at[first]!;
    let found = 0;
    do {
      const table = heap[0]!;
      holders[found++] = table;
      at[table] = at[table]! + sizes[table]!;
      const rest = at[table]! < tables[table]!.records.byteLength ? table : heap[--left]!;
      if (left > 0) sift(rest, 0);
    } while (left > 0 && compareBytes(tables[heap[0]!]!.records, at[heap[0]!]!, records, place, PREFIX_SIZE) === 0);
    visit(holders, found, records, place);
  }
}

/** All prefixes of some tables, without payload: 20 bytes each, and nothing else while it is made. */
export function uniteTables(tables: readonly PrefixTable[]): PrefixTable {
  const [only] = tables;
  if (only && tables.length === 1 && only.payloadSize === 0) return only;
  let count = 0;
  walkTables(tables, () => {
    count++;
  });
  const united = new Uint8Array(count * PREFIX_SIZE);
  let end = 0;
  walkTables(tables, (_holders, _tables, records, at) => {
    for (let i = 0; i < PREFIX_SIZE; i++) united[end + i] = records[at + i]!;
    end += PREFIX_SIZE;
  });
  return new PrefixTable(united, 0);
}
