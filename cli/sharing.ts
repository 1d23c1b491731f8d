import { PAGE_SIZE } from "../core/content/page.ts";
import type { ContentStatistics } from "../core/engine/inspect.ts";
import { uniteTables } from "../core/index/table-walk.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { compareTables, sumTallies, type Tally, tallyContents } from "../core/site/sharing.ts";
import { Store } from "../core/store/store.ts";
import { type ContentSource, readStreams, type SourceContext } from "./sources.ts";
import { table } from "./text.ts";
import { formatBytes, formatShare } from "./units.ts";

/** A machine, or a list of contents. */
interface Row extends Tally {
  readonly name: string;
  readonly kind: ContentSource["kind"];
  readonly format?: string;
}

/** Prints what each source is made of, and what each pair shares. Returns what the summary says of all. */
export async function reportSharing(sources: readonly ContentSource[], context: SourceContext): Promise<object> {
  const { output } = context;
  const rows: Row[] = [];
  for (const source of sources) {
    for (const row of await readRows(source, context)) {
      rows.push(row);
      const { name, kind, format } = row;
      output.event({ type: "source", name, kind, ...(format && { format }), ...figures(row, row.table.count) });
    }
  }
  const { distinct, shared } = compareTables(rows.map((row) => row.table));
  const sum = sumTallies(rows, distinct);
  output.result([...composition(rows, sum, distinct), ...(rows.length > 1 ? matrix(rows, shared) : [])]);
  const names = rows.map(({ name }) => name);
  const pairs = shared.map((row) => Array.from(row));
  return { sources: names, ...figures({ bytes: sum }, distinct), shared: pairs };
}

async function readRows(source: ContentSource, context: SourceContext): Promise<Row[]> {
  const { kind, text: name } = source;
  if (kind === "index") return [{ name, kind, table: source.file.table, bytes: undefined }];
  if (kind === "store") {
    const store = await Store.open(source.dir, { domain: context.domain, warn: context.output.note });
    try {
      return [{ name, kind, table: uniteTables(store.tables()), bytes: undefined }];
    } finally {
      await store.close();
    }
  }
  const rows: Row[] = [];
  await readStreams(source, context, async (info, pieces) => {
    const { format } = info;
    const tally = await tallyContents(segmentFormats.get(format)!.create(), pieces);
    rows.push({ name: kind === "machine" ? info.name : `${name}/${info.name}`, kind, format, ...tally });
  });
  return rows;
}

/** Of what is a list of contents, only how many are known. */
function figures({ bytes }: Pick<Tally, "bytes">, contents: number) {
  const distinct = contents * PAGE_SIZE;
  const pages = (length: number) => Math.floor(length / PAGE_SIZE);
  if (!bytes) return { bytes: { distinct }, pages: { distinct: contents } };
  return { bytes, pages: { zero: pages(bytes.zero), duplicate: pages(bytes.duplicate), distinct: contents } };
}

function composition(rows: readonly Row[], sum: ContentStatistics | undefined, distinct: number): string[] {
  const cells = (bytes: ContentStatistics | undefined, contents: number) =>
    bytes
      ? [bytes.plain, bytes.zero, bytes.duplicate, bytes.distinct, bytes.literal].map(formatBytes)
      : ["-", "-", "-", formatBytes(contents * PAGE_SIZE), "-"];
  const lines = rows.map((row) => [row.name, row.format ?? row.kind, ...cells(row.bytes, row.table.count)]);
  if (rows.length > 1) lines.push(["all", "", ...cells(sum, distinct)]);
  return table([["source", "format", "plain", "zero", "duplicate", "distinct", "other"], ...lines], 2);
}

/** How much of each row's distinct contents the columns have. */
function matrix(rows: readonly Row[], shared: readonly Float64Array[]): string[] {
  const numbers = rows.map((_, i) => String(i + 1));
  const lines = rows.map((row, i) => [
    `${i + 1} ${row.name}`,
    ...Array.from(shared[i]!, (count, j) => (i === j ? "" : formatShare(count, row.table.count))),
  ]);
  return ["", ...table([["of the distinct contents of", ...numbers], ...lines])];
}
