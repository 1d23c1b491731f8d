import { constants, open } from "node:fs/promises";
import { ShrinkerError } from "../core/errors.ts";
import { type IndexFile, readIndexFile } from "../core/index/index-file.ts";
import { looksLikeIndex } from "../core/index/index-head.ts";
import { parseMachine } from "../core/machines/image/name.ts";
import type { StreamSource } from "../core/machines/machine.ts";
import { scanSnapshot } from "../core/site/scan-snapshot.ts";
import type { ReadStream } from "../core/site/scanning-target.ts";
import { SharedStore } from "../core/site/shared-store.ts";
import { openLayout } from "../core/store/layout.ts";
import { openMachines } from "./machines.ts";
import { type FoundManifest, findManifest, openManifest } from "./manifests.ts";
import type { Options } from "./options.ts";
import type { Output } from "./output.ts";
import { readSpoolDir, readStoreDir, SPOOL_DIR } from "./settings.ts";
import { software } from "./version.ts";

const SNAPSHOT = "snapshot:";
const STORE = "store:";
const HEAD = 8;

/** Something with contents, as the command line names it. */
export type ContentSource =
  /** A machine: one stream. */
  | { readonly kind: "machine"; readonly text: string; readonly source: StreamSource }
  /** Machines of a store, under a name. */
  | { readonly kind: "snapshot"; readonly text: string; readonly manifest: FoundManifest }
  /** All that a store holds. */
  | { readonly kind: "store"; readonly text: string; readonly dir: string }
  /** What an index lists. */
  | { readonly kind: "index"; readonly text: string; readonly path: string; readonly file: IndexFile };

/** One whose streams can be read, in order. */
export type StreamedSource = Extract<ContentSource, { kind: "machine" | "snapshot" }>;

export interface SourceContext {
  readonly options: Options;
  readonly domain: string;
  readonly format: string | undefined;
  readonly output: Output;
  readonly signal: AbortSignal;
}

/**
 * Finds what the texts of a command line stand for, in their order; machines are to be closed. Rejects with `usage`, `input` for
 * what is not there, and `refused` for an index of another domain.
 */
export async function openSources(texts: readonly string[], context: SourceContext): Promise<ContentSource[]> {
  const { options, domain, format, signal } = context;
  const others = new Map<string, ContentSource>();
  for (const text of new Set(texts)) {
    const other = await openOther(text, options, domain);
    if (other) others.set(text, other);
  }
  const machines = texts.filter((text) => !others.has(text));
  const opened = await openMachines(machines, { format, digest: false, signal });
  return texts.map((text) => others.get(text) ?? { kind: "machine", text, source: opened.shift()! });
}

async function openOther(text: string, options: Options, domain: string): Promise<ContentSource | undefined> {
  if (text.startsWith(SNAPSHOT)) {
    const manifest = await findManifest(readStoreDir(options), domain, text.slice(SNAPSHOT.length));
    return { kind: "snapshot", text, manifest };
  }
  if (text.startsWith(STORE)) {
    const dir = text.slice(STORE.length);
    if (dir === "") throw new ShrinkerError("usage", `No store in "${text}": expected store:DIR`);
    await openLayout(dir, domain, false);
    return { kind: "store", text, dir };
  }
  const { spec: path } = parseMachine(text);
  if (path === "-" || /^[a-z][a-z0-9+.-]*:/.test(path) || !(await isIndex(path))) return undefined;
  return { kind: "index", text, path, file: await openIndex(path, domain) };
}

/** Reads an index; rejects with `refused` where it is of another domain. */
export async function openIndex(path: string, domain: string): Promise<IndexFile> {
  const file = await readIndexFile(path);
  if (file.meta.domain === domain) return file;
  const message = `"${path}" lists the domain "${file.meta.domain}", not "${domain}": contents of different domains never meet`;
  throw new ShrinkerError("refused", message);
}

/** What can't be read is told when it is opened as a machine. */
async function isIndex(path: string): Promise<boolean> {
  const head = new Uint8Array(HEAD);
  try {
    // Without waiting for whoever would write to a FIFO.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) return false;
    await file.read(head, 0, HEAD, 0);
    return looksLikeIndex(head);
  } catch {
    return false;
  }
}

/** Reads the streams of a machine or a snapshot, those of a snapshot as its store gives them. */
export async function readStreams(
  source: StreamedSource,
  { options, domain, output, signal }: SourceContext,
  read: ReadStream,
): Promise<void> {
  if (source.kind === "machine") return read(source.source.info, source.source.pieces(signal));
  const store = new SharedStore(source.manifest.dir, { domain, warn: output.note });
  const spoolDir = readSpoolDir(options, SPOOL_DIR);
  const manifest = await openManifest(source.manifest, signal);
  await scanSnapshot(manifest, { store, domain, software, spoolDir, signal }, read);
}
