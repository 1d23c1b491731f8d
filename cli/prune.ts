import { ShrinkerError } from "../core/errors.ts";
import { type PruneReport, pruneStore } from "../core/site/prune-store.ts";
import type { Action } from "./command.ts";
import { readDomain, readStoreDir } from "./settings.ts";
import { formatBytes, parseAge } from "./units.ts";

/** A receiver's store has no snapshots: without this, pruning it would empty it. */
const KEEP_RECEIVED = "30d";

/** Forgets snapshots, ends holds, and removes from a store what nothing needs. */
export const prune: Action = async ({ args, options, output, interrupt }) => {
  if (args.length > 0)
    throw new ShrinkerError("usage", `What is "${args[0]}"? A snapshot is forgotten with --forget ${args[0]}`);
  const dir = readStoreDir(options);
  const dryRun = options.flag("dry-run");
  const begun = performance.now();
  const report = await pruneStore(dir, {
    domain: readDomain(options),
    forget: options.all("forget"),
    release: options.all("release"),
    repack: options.flag("repack"),
    keepReceived: options.read("keep-received", parseAge) ?? parseAge(KEEP_RECEIVED),
    dryRun,
    now: Date.now(),
    signal: interrupt.signal,
  });
  output.result(describe(report, dryRun));
  const { forgotten, released, removed, packs, harmed, unreadable } = report;
  const seconds = Math.round(performance.now() - begun) / 1000;
  const summary = { forgotten, released, ...removed, packs, harmed, unreadable, seconds };
  output.event({ type: "summary", ok: true, ...(dryRun && { dryRun }), ...summary });
  return 0;
};

function describe({ forgotten, released, removed, packs, harmed, unreadable }: PruneReport, dryRun: boolean): string[] {
  const list = (names: readonly string[]) => names.map((name) => `"${name}"`).join(", ");
  const lines: string[] = [];
  if (forgotten.length > 0) lines.push(`${dryRun ? "would be forgotten" : "forgotten"}: ${list(forgotten)}`);
  if (released.length > 0) lines.push(`${dryRun ? "holds that would end" : "holds that ended"}: ${list(released)}`);
  const bytes = formatBytes(Math.abs(removed.bytes));
  const change = removed.bytes < 0 ? `${bytes} more in use` : `${bytes} freed`;
  lines.push(
    `contents ${dryRun ? "that would be removed" : "removed"}: ${removed.contents}, ${dryRun ? "about " : ""}${change}`,
    `packs: ${packs.removed} removed, ${packs.rewritten} written anew, ${packs.kept} stay`,
  );
  for (const path of unreadable) lines.push(`"${path}" can't be read, and is left alone: shrinker verify tells why`);
  for (const { kind, name, lacking } of harmed) {
    lines.push(`${kind} "${name}" lacks ${lacking} contents: what is kept anew may bring them back, else give it up`);
  }
  return lines;
}
