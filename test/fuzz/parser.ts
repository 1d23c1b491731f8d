/** What it means to fuzz a parser: nothing but success, or an error that it promises, within a time and so much memory. */
import { resourceUsage } from "node:process";
import fc from "fast-check";
import { type ErrorCode, ShrinkerError } from "../../core/errors.ts";
import { within } from "../support/session.ts";
import { type Artefact, type Damage, damage, harm } from "./mutate.ts";

export interface ParserOptions {
  /** Of the errors that it may end in; none for what takes everything. */
  readonly codes: readonly ErrorCode[];
  /** Cases that a run of the tests tries. */
  readonly runs: number;
  /** MiB that the process may grow by over all cases; 384 unless given: the windows, wasm memory and garbage of a runtime. */
  readonly growth?: number;
  /** Ends what it has open. */
  readonly close?: () => Promise<void> | void;
}

export interface Parser extends ParserOptions {
  readonly name: string;
  /** Gives each case, as a call that reads it, to `attempt`. */
  property(attempt: (read: () => unknown) => Promise<void>): fc.IAsyncProperty<unknown>;
}

/** No case takes longer, on a machine that has other things to do as well. */
const CASE_MS = 5000;
const GROWTH = 384;
/** Characters of a report. */
const MAX_REPORT = 4000;

/** @param read reads one case; what it throws has to be a `ShrinkerError` of one of the codes */
export function parser<Case>(
  name: string,
  cases: fc.Arbitrary<Case>,
  read: (one: Case) => unknown,
  options: ParserOptions,
): Parser {
  return {
    ...{ name, ...options },
    property: (attempt) => fc.asyncProperty(cases, (one) => attempt(() => read(one))),
  };
}

/** A parser of bytes, over damaged artefacts. */
export function ofBytes(
  name: string,
  artefacts: readonly Artefact[],
  read: (bytes: Buffer, damage: Damage) => unknown,
  options: Partial<ParserOptions> = {},
): Parser {
  const harmed = (one: Damage) => read(harm(artefacts, one), one);
  return parser(name, damage, harmed, { codes: ["integrity"], runs: 300, ...options });
}

/** Whether the case was accepted. Throws where it ends otherwise than it may. */
async function ends({ name, codes }: Parser, read: () => unknown): Promise<boolean> {
  const begun = performance.now();
  let error: unknown;
  let failed = false;
  try {
    const reading = read();
    if (reading instanceof Promise) await within(reading, name, CASE_MS);
  } catch (thrown) {
    failed = true;
    error = thrown;
  }
  const ms = performance.now() - begun;
  if (failed && !(error instanceof ShrinkerError && codes.includes(error.code)))
    throw new Error(`${name} ends in what it must not: ${error instanceof Error ? error.stack : error}`);
  if (ms > CASE_MS) throw new Error(`${name} takes ${Math.round(ms)} ms`);
  return !failed;
}

/** MiB that the process has had at most. */
const peak = () => resourceUsage().maxRSS / 1024;

export interface Fuzzed {
  readonly runs: number;
  /** Cases that were right in spite of all. */
  readonly accepted: number;
  /** Seed, case and error of one that failed, or what the process grew by. */
  readonly failure: string | undefined;
}

/** Tries cases until so many were, or the time is over. */
export async function fuzz(
  parser: Parser,
  { seed, runs, ms }: { seed: number; runs: number; ms?: number },
): Promise<Fuzzed> {
  const before = peak();
  let accepted = 0;
  let late = false;
  const property = parser.property(async (read) => {
    // To look for a smaller case that hangs as well would take as long for each.
    if (late) return;
    const begun = performance.now();
    try {
      if (await ends(parser, read)) accepted++;
    } finally {
      late = performance.now() - begun >= CASE_MS;
    }
  });
  const details = await fc.check(property, {
    ...{ seed, numRuns: runs, includeErrorInReport: true },
    ...(ms !== undefined && { interruptAfterTimeLimit: ms, markInterruptAsFailure: false }),
  });
  await parser.close?.();
  const grown = Math.round(peak() - before);
  const { numRuns } = details;
  if (details.failed) {
    const report = (fc.defaultReportMessage(details) ?? "").slice(0, MAX_REPORT);
    return { runs: numRuns, accepted, failure: `seed ${seed}: ${report}` };
  }
  const failure = grown > (parser.growth ?? GROWTH) ? `seed ${seed}: ${parser.name} took ${grown} MiB` : undefined;
  return { runs: numRuns, accepted, failure };
}
