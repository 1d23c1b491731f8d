import type { Parser } from "./parser.ts";
import { batchParsers } from "./parsers/batches.ts";
import { wireParsers } from "./parsers/wire.ts";

/** Every parser of what comes from outside. */
export const parsers: readonly Parser<never>[] = [wireParsers, batchParsers].flat() as Parser<never>[];
