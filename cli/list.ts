import { stat } from "node:fs/promises";
import { fileError, ShrinkerError } from "../core/errors.ts";
import { listSnapshots, type Manifest, readManifest, snapshotPath } from "../core/site/manifest.ts";
import { DigestIndex } from "../core/store/digest-index.ts";
import { listHolds } from "../core/store/holds.ts";
import { type Layout, listDomains, openLayout, readIdentity } from "../core/store/layout.ts";
import { listPacks, packPath } from "../core/store/pack.ts";
import type { Action } from "./command.ts";
import { asError, exitCode } from "./exit.ts";
import { listMigrations } from "./list-migrations.ts";
import type { Output } from "./output.ts";
import { needState, readDomain, readStoreDir } from "./settings.ts";
import { hex } from "./summary.ts";
import { table } from "./text.ts";
import { formatBytes, formatTime } from "./units.ts";

/** Says what a store holds. What is damaged does not keep the rest from being listed. */
export const list: Action = async ({ args, options, output, interrupt }) => {
  if (args.length > 0) throw new ShrinkerError("usage", `What is "${args[0]}"? list says what a store holds`);
  if (options.flag("migrations")) {
    const state = needState(options);
    return listMigrations(state, output);
  }
  const dir = readStoreDir(options);
  const domains = options.text("domain") === undefined ? await listDomains(dir) : [readDomain(options)];
  const begun = performance.now();
  let first: ShrinkerError | undefined;
  const failed = (thrown: unknown) => {
    const error = asError(thrown);
    first ??= error;
    output.error(error);
  };
  for (const domain of domains) {
    const layout = await openLayout(dir, domain, false);
    await readIdentity(layout);
    await listDomain(layout, output, failed);
    if (interrupt.signal.aborted) break;
  }
  if (domains.length === 0) output.result([`the store "${dir}" is empty`]);
  const seconds = Math.round(performance.now() - begun) / 1000;
  const failure = first && { code: first.code, message: first.message };
  output.event({ type: "summary", ok: !first, ...failure, domains, seconds });
  return interrupt.code ?? exitCode(first);
};

async function listDomain(layout: Layout, output: Output, failed: (error: unknown) => void): Promise<void> {
  const { domain } = layout;
  const { packs, bytes } = await measurePacks(layout);
  const index = await DigestIndex.open(layout.index, failed);
  const contents = index.count;
  output.event({ type: "domain", domain, contents, packs, bytes });
  output.result([`domain "${domain}": contents: ${contents}, packs: ${packs}, ${formatBytes(bytes)}`]);
  const rows: string[][] = [];
  for (const name of await listSnapshots(layout)) {
    try {
      const manifest = await readManifest(snapshotPath(layout, name));
      output.event({ type: "snapshot", domain, name, ...describeManifest(manifest) });
      const { created, streams } = manifest;
      const plain = streams.reduce((sum, { length }) => sum + length, 0);
      rows.push(["snapshot", name, formatTime(created), machines(streams), formatBytes(plain)]);
    } catch (error) {
      failed(error);
    }
  }
  for (const { error, ...hold } of await listHolds(layout)) {
    if (error) failed(error);
    else {
      output.event({ type: "hold", domain, ...hold });
      rows.push([
        "hold",
        hold.name,
        formatTime(hold.created),
        `until ${formatTime(hold.expires)}`,
        `${hold.contents} contents`,
      ]);
    }
  }
  output.result(table(rows, 4).map((line) => `  ${line}`));
}

function describeManifest({ created, bytes, contents, streams }: Manifest): object {
  return {
    created: Math.floor(created),
    contents,
    bytes: { plain: streams.reduce((sum, { length }) => sum + length, 0), manifest: bytes },
    streams: streams.map(({ name, format, length, sha256 }) => ({
      name,
      format,
      plain: length,
      ...(sha256 && { sha256: hex(sha256) }),
    })),
  };
}

function machines(streams: Manifest["streams"]): string {
  const names = streams.map(({ name }) => name);
  return names.length > 4 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
}

async function measurePacks(layout: Layout): Promise<{ packs: number; bytes: number }> {
  const packs = await listPacks(layout.packs);
  let bytes = 0;
  for (const pack of packs) {
    const path = packPath(layout.packs, pack);
    const stats = await stat(path).catch((error) => {
      throw fileError("Cannot read", path, error);
    });
    bytes += stats.size;
  }
  return { packs: packs.length, bytes };
}
