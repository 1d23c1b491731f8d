/** All tables of live migrations of fakes, by what they are about. */
import type { Row } from "../support/live/row.ts";
import { rows as faults } from "./rows/faults.ts";
import { rows as kills } from "./rows/kills.ts";
import { rows as links } from "./rows/links.ts";
import { rows as moves } from "./rows/moves.ts";
import { rows as words } from "./rows/words.ts";

export const TABLES: Readonly<Record<string, readonly Row[]>> = {
  "a guest moves": moves,
  "the link": links,
  killed: kills,
  "the VM": faults,
  "the hand-over": words,
};
