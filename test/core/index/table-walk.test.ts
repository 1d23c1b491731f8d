import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type PrefixTable, PrefixTableBuilder } from "../../../core/index/prefix-table.ts";
import { uniteTables, walkTables } from "../../../core/index/table-walk.ts";

const PREFIX = 20;

/** A digest with few distinct beginnings, so that tables meet. */
function digest(n: number): Buffer {
  const bytes = Buffer.alloc(32, n % 3);
  bytes.writeUInt16BE(n, 18);
  return bytes;
}

function tableOf(numbers: readonly number[], payload: 0 | 8): PrefixTable {
  const builder = new PrefixTableBuilder(payload);
  for (const n of numbers) builder.add(digest(n), 0, 1, 4096 * n);
  return builder.build();
}

const prefixOf = (n: number) => digest(n).subarray(0, PREFIX).toString("hex");
const tables = fc.array(fc.record({ numbers: fc.array(fc.nat(60), { maxLength: 40 }), places: fc.boolean() }), {
  maxLength: 12,
});

describe("a walk through tables", () => {
  test("tells each prefix once, in order, with all that have it", () => {
    fc.assert(
      fc.property(tables, (specs) => {
        const seen: { prefix: string; holders: number[] }[] = [];
        walkTables(
          specs.map(({ numbers, places }) => tableOf(numbers, places ? 8 : 0)),
          (holders, count, records, at) => {
            const prefix = Buffer.from(records.subarray(at, at + PREFIX)).toString("hex");
            seen.push({ prefix, holders: [...holders.subarray(0, count)].sort((a, b) => a - b) });
          },
        );
        const expected = [...new Set(specs.flatMap(({ numbers }) => numbers))]
          .map((n) => ({
            prefix: prefixOf(n),
            holders: specs.flatMap(({ numbers }, i) => (numbers.includes(n) ? [i] : [])),
          }))
          .sort((a, b) => (a.prefix < b.prefix ? -1 : 1));
        expect(seen).toEqual(expected);
      }),
    );
  });

  test("unites tables into one without payload", () => {
    fc.assert(
      fc.property(tables, (specs) => {
        const united = uniteTables(specs.map(({ numbers, places }) => tableOf(numbers, places ? 8 : 0)));
        const all = tableOf(
          specs.flatMap(({ numbers }) => numbers),
          0,
        );
        expect([united.payloadSize, united.count]).toEqual([0, all.count]);
        expect(Buffer.compare(united.records, all.records)).toBe(0);
      }),
    );
  });

  test("of no tables, and of empty ones, tells nothing", () => {
    let told = 0;
    for (const none of [[], [tableOf([], 0)], [tableOf([], 8), tableOf([], 0)]]) walkTables(none, () => told++);
    expect([told, uniteTables([]).count]).toEqual([0, 0]);
  });
});
