import type { Parser } from "./parser.ts";
import { batchParsers } from "./parsers/batches.ts";
import { fileParsers } from "./parsers/files.ts";
import { machineParsers } from "./parsers/machines.ts";
import { sessionParsers } from "./parsers/sessions.ts";
import { textParsers } from "./parsers/texts.ts";
import { wireParsers } from "./parsers/wire.ts";

/** Every parser of what comes from outside. */
export const parsers: readonly Parser[] = [
  ...wireParsers,
  ...batchParsers,
  ...sessionParsers,
  ...fileParsers,
  ...machineParsers,
  ...textParsers,
];
