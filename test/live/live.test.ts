// Live migrations of fake VMs by the command at both ends, by tables; all of their rows run with `npm run e2e`.
import { fakes } from "../support/live/fakes.ts";
import { testRows } from "../support/live/table.ts";
import { TABLES } from "./tables.ts";

const rows = Object.entries(TABLES).flatMap(([about, table]) =>
  table.filter(({ often }) => often).map((row) => ({ ...row, name: `${about}: ${row.name}` })),
);

testRows(rows, { machines: () => fakes, atOnce: 5, limit: 60_000 });
