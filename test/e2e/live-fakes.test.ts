// All rows of the tables of live migrations with fake VMs; of them, `npm test` runs some.
import { describe } from "bun:test";
import { TABLES } from "../live/tables.ts";
import { fakes } from "../support/live/fakes.ts";
import { testRows } from "../support/live/table.ts";

for (const [about, rows] of Object.entries(TABLES))
  describe(about, () => testRows(rows, { machines: () => fakes, atOnce: 6, limit: 300_000 }));
