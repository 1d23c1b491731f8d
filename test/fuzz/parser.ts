/** What it means to fuzz a parser: nothing but success, or an error that it promises, within a time and so much memory. */
import { resourceUsage } from "node:process";
import fc from "fast-check";
import { type ErrorCode, ShrinkerError } from "../../core/errors.ts";
import { within } from "../support/session.ts";
import { type Artefact, type Damage, damage, harm } from "./mutate.ts";

export interface Parser<Case = unknown> {
  readonly name: string;
  readonly cases: fc.Arbitrary<Case>;
  /** Reads one case; what it throws has to be a `ShrinkerError`. */
  parse(one: Case): unknown;
  /** Of the errors that it may end in. */
  readonly codes: readonly ErrorCode[];
  /** Cases that a run of the tests tries. */
  readonly runs: number;
  /** Ends what `parse` has open. */
  close?(): Promise<void> | void;
}

/** No case takes longer, on a machine that has other things to do as well. */
const CASE_MS = 5000;
/** What the process may grow by over all cases of a parser: the windows, wasm memory and garbage of a runtime. */
const GROWTH = 384 << 20;

/** A parser of bytes, over damaged artefacts. */
export function ofBytes(
  name: string,
  artefacts: readonly Artefact[],
  parse: (bytes: Buffer, damage: Damage) => unknown,
  { codes = ["integrity"], runs = 300, close }: Partial<Pick<Parser, "codes" | "runs" | "close">> = {},
): Parser<Damage> {
  const parser = { name, cases: damage, codes, runs, parse: (one: Damage) => parse(harm(artefacts, one), one) };
  return close ? { ...parser, close } : parser;
}

/** Whether the case was accepted. Throws where it ends otherwise than it may. */
async function attempt<Case>(parser: Parser<Case>, one: Case): Promise<boolean> {
  const begun = performance.now();
  let ended: unknown;
  try {
    const parsed = parser.parse(one);
    if (parsed instanceof Promise) await within(parsed, parser.name, CASE_MS);
  } catch (error) {
    ended = error ?? new Error("nothing was thrown");
  }
  const ms = performance.now() - begun;
  if (ms > CASE_MS) throw new Error(`${parser.name} takes ${Math.round(ms)} ms`);
  if (ended === undefined || (ended instanceof ShrinkerError && parser.codes.includes(ended.code)))
    return ended === undefined;
  throw new Error(`${parser.name} ends in what it must not: ${(ended as Error).stack ?? ended}`, { cause: ended });
}

/** Mebibytes that the process has had at most. */
const peak = () => resourceUsage().maxRSS / 1024;

/** Tries cases until so many were, or the time is over. Returns how many, how many of them were accepted, and what to say of the one that failed. */
export async function fuzz<Case>(
  parser: Parser<Case>,
  { seed, runs, ms }: { seed: number; runs: number; ms?: number },
): Promise<{ readonly runs: number; readonly accepted: number; readonly failure: string | undefined }> {
  let accepted = 0;
  const before = peak();
  let late = false;
  const property = fc.asyncProperty(parser.cases, async (one) => {
    // To look for a smaller case that hangs as well would take as long for each.
    if (late) return;
    const begun = performance.now();
    try {
      if (await attempt(parser, one)) accepted++;
    } finally {
      late = performance.now() - begun >= CASE_MS;
    }
  });
  const details = await fc.check(property, {
    seed,
    numRuns: runs,
    includeErrorInReport: true,
    ...(ms !== undefined && { interruptAfterTimeLimit: ms, markInterruptAsFailure: false }),
  });
  await parser.close?.();
  const grown = peak() - before;
  const failure = details.failed
    ? (fc.defaultReportMessage(details) ?? "it failed")
    : grown > GROWTH / 2 ** 20
      ? `${parser.name} took ${Math.round(grown)} MiB`
      : undefined;
  return { runs: details.numRuns, accepted, failure: failure && `seed ${seed}: ${failure.slice(0, 4000)}` };
}
