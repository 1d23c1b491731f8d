import { PAGE_SIZE } from "../core/content/page.ts";
import { IntegrityError, ShrinkerError } from "../core/errors.ts";
import { type IndexAside, indexTarget, writeIndexAside } from "../core/index/index-file.ts";
import type { PrefixTable } from "../core/index/prefix-table.ts";
import { uniteTables } from "../core/index/table-walk.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { holdIndexed } from "../core/site/index-hold.ts";
import { listSnapshot } from "../core/site/list-snapshot.ts";
import type { SeedFile } from "../core/site/seeds.ts";
import { tallyContents } from "../core/site/sharing.ts";
import { releaseHold } from "../core/store/holds.ts";
import { Store } from "../core/store/store.ts";
import type { ContentSource, SourceContext } from "./sources.ts";
import { hex } from "./summary.ts";
import { formatBytes, parseAge } from "./units.ts";
import { software } from "./version.ts";

/** Longer texts of sources are cut: they are for people. */
const MAX_SOURCE = 255;
/** Seeds that are named for people. */
const MAX_NAMED = 20;

/**
 * Writes what sources hold to an index file, for bundles that leave it out: of a store, which is held on request, and of
 * files, which will have to be given to `receive` as seeds. Returns what the summary says of it.
 */
export async function writeIndex(
  path: string,
  sources: readonly ContentSource[],
  context: SourceContext,
): Promise<object> {
  const { options, domain, output, signal } = context;
  const force = options.flag("force");
  const age = options.read("hold", parseAge);
  const seeds = sources.flatMap(seedOf);
  const dir = storeOf(sources);
  if (dir === undefined && options.given("hold"))
    throw new ShrinkerError("usage", "--hold keeps contents of a store: name that with --store DIR");
  if (context.format !== undefined)
    throw new ShrinkerError("usage", "--format has no place in an index: seeds are read by their first bytes");
  const target = await indexTarget(path, force);
  const store = dir === undefined ? undefined : await Store.open(dir, { domain, warn: output.note });
  try {
    const created = Date.now();
    const stored = store ? await listStored(sources, store, context) : [];
    const tables = [...stored];
    for (const source of sources) {
      if (source.kind !== "machine") continue;
      const segmenter = segmentFormats.get(source.source.info.format)!.create();
      tables.push((await tallyContents(segmenter, source.source.pieces(signal))).table);
    }
    const names = sources.map(({ text }) => text.slice(0, MAX_SOURCE));
    const meta = { ...store?.identity, domain, created, software, seeds, sources: names };
    const { file, contents } = await write(target, meta, tables, force);
    const { digest } = file;
    const hold =
      store && age !== undefined
        ? await keep(file, store, stored, { created, age })
        : await file.publish().then(() => undefined);
    output.result([
      `${path}, the index ${hex(digest).slice(0, 12)}: ${contents} contents (${formatBytes(contents * PAGE_SIZE)})`,
      `bundles that are made against it are received with ${receiveOptions(dir, seeds)}`,
      ...(hold
        ? [`held until ${hold.expires}; to end that: shrinker prune --store ${dir} --release ${hold.name}`]
        : []),
    ]);
    const site = store && { site: hex(store.identity.site), generation: hex(store.identity.generation) };
    return { index: { path, digest: hex(digest), domain, contents, ...site, seeds }, ...(hold && { hold }) };
  } finally {
    await store?.close();
  }
}

function receiveOptions(dir: string | undefined, seeds: readonly SeedFile[]): string {
  const options = seeds.slice(0, MAX_NAMED).map(({ name }) => `--seed ${name}`);
  if (seeds.length > MAX_NAMED) options.push(`and ${seeds.length - MAX_NAMED} more`);
  return [...(dir === undefined ? [] : [`--store ${dir}`]), ...options].join(" ");
}

/** Unites the tables only here, so that they are gone when the hold is made. */
async function write(path: string, meta: Parameters<typeof writeIndexAside>[1], tables: PrefixTable[], force: boolean) {
  const table = uniteTables(tables);
  return { file: await writeIndexAside(path, meta, table, force), contents: table.count };
}

/** An index that is not held takes no other one's place, and a hold without an index does not stay. */
async function keep(
  file: IndexAside,
  store: Store,
  stored: readonly PrefixTable[],
  times: { readonly created: number; readonly age: number },
): Promise<{ name: string; expires: string }> {
  let name: string | undefined;
  try {
    name = await holdIndexed(store, file.digest, uniteTables(stored), times);
    await file.publish();
    return { name, expires: new Date(times.created + times.age).toISOString() };
  } catch (error) {
    await file.remove();
    if (name !== undefined) await releaseHold(store.layout, name).catch(() => {});
    throw error;
  }
}

async function listStored(
  sources: readonly ContentSource[],
  store: Store,
  { output }: SourceContext,
): Promise<readonly PrefixTable[]> {
  if (sources.some(({ kind }) => kind === "store")) {
    // Bundles would leave out what is not there.
    if (store.isShort)
      throw new IntegrityError(
        `Cannot list ${store.name}: packs of it are gone or cut short; see shrinker verify, and prune it first`,
      );
    return store.tables();
  }
  const tables: PrefixTable[] = [];
  for (const source of sources) {
    if (source.kind !== "snapshot") continue;
    const { table, lacking } = await listSnapshot(source.manifest.path, store);
    if (lacking > 0) output.note(`${lacking} contents of ${source.text} are not in the store, and not in the index`);
    tables.push(table);
  }
  return tables;
}

/** The one store that is indexed, if any: an index is of one site. */
function storeOf(sources: readonly ContentSource[]): string | undefined {
  const dirs = new Set<string>();
  for (const source of sources) {
    if (source.kind === "store") dirs.add(source.dir);
    else if (source.kind === "snapshot") dirs.add(source.manifest.dir);
    else if (source.kind === "index")
      throw new ShrinkerError("usage", `"${source.path}" is an index: name what it was made of`);
  }
  const [dir, other] = dirs;
  if (other === undefined) return dir;
  throw new ShrinkerError("usage", `An index is of one store: "${dir}" and "${other}" are two`);
}

function seedOf(source: ContentSource): SeedFile[] {
  if (source.kind !== "machine") return [];
  const { name, size, mtime } = source.source.info;
  if (size === undefined || mtime === undefined)
    throw new ShrinkerError("usage", `"${source.text}" can't be a seed: only a file can be given to receive --seed`);
  return [{ name, size, mtime }];
}
