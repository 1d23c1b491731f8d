/** Makes a test of each row of a table; rows run at once, as they mostly wait. */
import { test } from "bun:test";
import type { Row } from "./row.ts";
import { runRow } from "./runner.ts";
import type { Machines } from "./vm.ts";

export interface TableOptions {
  /** Called once tests run. */
  machines(): Machines;
  /** Rows that run at once. */
  readonly atOnce: number;
  /** Milliseconds for a row, and those that run before it. */
  readonly limit: number;
}

/**
 * Rows to run, by a part of their names; for whoever looks at one of them. Not by the filter of the test runner: rows that it leaves
 * out would be begun all the same, and be left with their processes when it ends.
 */
const only = process.env.LIVE_ROWS;

export function testRows(rows: readonly Row[], { machines, atOnce, limit }: TableOptions): void {
  const wanted = rows.filter(({ name, todo }) => (only === undefined ? !todo : name.includes(only)));
  const ends = new Map(wanted.map((row) => [row, Promise.withResolvers<void>()]));
  for (const { promise } of ends.values()) promise.catch(() => {});
  let queue: readonly Row[] = wanted;
  const work = async () => {
    for (let row = queue[0]; row; row = queue[0]) {
      queue = queue.slice(1);
      const { resolve, reject } = ends.get(row)!;
      await runRow(row, machines()).then(resolve, reject);
    }
  };
  let begun = false;
  const begin = () => {
    if (!begun) for (let i = 0; i < atOnce; i++) void work();
    begun = true;
  };
  for (const row of rows) {
    const { name, todo } = row;
    const result = ends.get(row);
    if (!result) test.todo(`${name}${todo ? `: ${todo}` : " (not asked for)"}`);
    else
      test(
        name,
        () => {
          begin();
          return result.promise;
        },
        limit,
      );
  }
}
