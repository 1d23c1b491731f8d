import { ShrinkerError } from "../core/errors.ts";
import { type NeedReport, type VerifyReport, verifyStore } from "../core/site/verify-store.ts";
import type { Action } from "./command.ts";
import { exitCode } from "./exit.ts";
import { readDomain, readStoreDir } from "./settings.ts";
import { table } from "./text.ts";
import { formatBytes } from "./units.ts";

/** Names of an error's message; the table has all. */
const MOST_NAMES = 5;

/** Checks a store, and says which snapshots are harmed by what is damaged. */
export const verify: Action = async ({ args, options, output, interrupt }) => {
  if (args.length > 0) throw new ShrinkerError("usage", `What is "${args[0]}"? verify checks all of a store`);
  const dir = readStoreDir(options);
  const domain = readDomain(options);
  const readData = options.flag("read-data");
  const begun = performance.now();
  const report = await verifyStore(dir, { domain, readData, now: Date.now(), signal: interrupt.signal });
  for (const note of report.notes) output.note(note);
  for (const { path, offset, contents, why } of report.damaged)
    output.event({ type: "damaged", path, offset, contents, message: why });
  for (const { path, why } of report.runs) output.event({ type: "damaged", path, message: why });
  for (const { kind, name, contents, lacking, damaged, error } of report.needs) {
    const failure = error && { code: error.code, message: error.message };
    output.event({
      type: "checked",
      kind,
      name,
      contents,
      lacking,
      damaged,
      ok: isWhole({ lacking, damaged, error }),
      ...failure,
    });
  }
  output.result(describe(domain, report));
  const error = judge(dir, report);
  if (error) output.error(error);
  const { packs, bytes, contents, misplaced } = report;
  output.event({
    type: "summary",
    ok: !error,
    ...(error && { code: error.code, message: error.message }),
    ...{
      domain,
      readData,
      packs,
      bytes,
      contents,
      damaged: report.damaged.length,
      runs: report.runs.length,
      misplaced,
    },
    checked: report.needs.length,
    harmed: report.needs.filter((need) => !isWhole(need)).length,
    seconds: Math.round(performance.now() - begun) / 1000,
  });
  return exitCode(error);
};

function isWhole({ lacking, damaged, error }: Pick<NeedReport, "lacking" | "damaged" | "error">): boolean {
  return !error && lacking + damaged === 0;
}

function describe(domain: string, report: VerifyReport): string[] {
  const lines = [
    `domain "${domain}": packs: ${report.packs}, ${formatBytes(report.bytes)}; contents that are right: ${report.contents}`,
  ];
  for (const { path, offset, contents, why } of report.damaged)
    lines.push(`"${path}", byte ${offset}: ${why} (contents: ${contents})`);
  for (const { why } of report.runs) lines.push(why);
  if (report.misplaced > 0)
    lines.push(`the index lacks ${report.misplaced} contents, or says that they are where they are not`);
  if (report.needs.length === 0) return lines;
  const rows = report.needs.map((need) => {
    const state = need.error ? "unreadable" : isWhole(need) ? "whole" : "harmed";
    return [need.kind, need.name, state, ...[need.contents, need.lacking, need.damaged].map(String)];
  });
  for (const { error } of report.needs) if (error) lines.push(error.message);
  return [...lines, ...table([["", "", "", "contents", "lacking", "damaged"], ...rows], 3)];
}

/** What is wrong in one line, and what to do about it. */
function judge(dir: string, report: VerifyReport): ShrinkerError | undefined {
  if (report.clean) return undefined;
  const harmed = report.needs.filter((need) => !isWhole(need));
  const unread = harmed.filter(({ lacking, damaged, error }) => error && lacking + damaged === 0);
  const index = report.runs.length + report.misplaced > 0;
  if (report.damaged.length === 0 && !index && unread.length === harmed.length) {
    const { error } = harmed.find(({ error }) => error?.code !== "integrity") ?? harmed[0]!;
    return error;
  }
  const what = [
    report.damaged.length > 0 && `parts of packs: ${report.damaged.length}`,
    index && "the index has to be made again",
    harmed.length > 0 && `which harms ${names(harmed)}`,
  ].filter((text) => text !== false);
  const remedy =
    "shrinker prune drops what is damaged and makes the index again; what is kept anew then fills the gaps";
  return new ShrinkerError("integrity", `The store "${dir}" is damaged (${what.join(", ")}): ${remedy}`);
}

function names(harmed: readonly NeedReport[]): string {
  const some = harmed.slice(0, MOST_NAMES).map(({ kind, name }) => `${kind} "${name}"`);
  return harmed.length > MOST_NAMES ? `${some.join(", ")} and ${harmed.length - MOST_NAMES} more` : some.join(", ");
}
