import type { Parser } from "./parser.ts";
import { batchParsers } from "./parsers/batches.ts";
import { fileParsers } from "./parsers/files.ts";
import { sessionParsers } from "./parsers/sessions.ts";
import { wireParsers } from "./parsers/wire.ts";

/** Every parser of what comes from outside. */
export const parsers: readonly Parser<never>[] = [
  wireParsers,
  batchParsers,
  sessionParsers,
  fileParsers,
].flat() as Parser<never>[];
