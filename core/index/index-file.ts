import { createHash } from "node:crypto";
import { constants, type FileHandle, open, realpath, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { DIGEST_SIZE } from "../content/page.ts";
import { fileError, ShrinkerError, systemCode } from "../errors.ts";
import { openAside } from "../files/aside.ts";
import { damaged, encodeHead, type IndexMeta, notAnIndex, readHead, readInto } from "./index-head.ts";
import { isSorted, PREFIX_SIZE, PrefixTable } from "./prefix-table.ts";

/** Records are read and written in pieces of about 2.6 MB. */
const PIECE = PREFIX_SIZE << 17;

export interface IndexFile {
  readonly meta: IndexMeta;
  /** The digests, without payload. */
  readonly table: PrefixTable;
  /** The file's SHA-256, 32 bytes: what it may be called by. */
  readonly digest: Uint8Array;
}

/** An index that is written and lasts, and has no name yet. */
export interface IndexAside {
  /** The file's SHA-256. */
  readonly digest: Uint8Array;
  /** Gives it its name. Rejects with `exists` for a path that is taken meanwhile; then it is gone. */
  publish(): Promise<void>;
  /** Never rejects. */
  remove(): Promise<void>;
}

/**
 * Where an index of that name is written: behind a link, which stays. Rejects with `exists` for a path that is taken, unless
 * `force`, and with `input` for what is no file: that is not to be replaced.
 */
export async function indexTarget(path: string, force: boolean): Promise<string> {
  const there = await stat(path).catch((error) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw fileError("Cannot write", path, error);
  });
  if (!there) return path;
  if (!there.isFile())
    throw new ShrinkerError("input", `Cannot write "${path}": it is not a regular file; name another one`);
  if (!force)
    throw new ShrinkerError("exists", `"${path}" exists already: name another file, or replace it with --force`);
  return realpath(path);
}

/**
 * Writes what a site holds to a file beside `path`, readable by its owner only. Rejects with `usage` for a meta that does not
 * fit into an index.
 * @param path as `indexTarget` gives it
 * @param table without payload
 */
export async function writeIndexAside(
  path: string,
  meta: Omit<IndexMeta, "count">,
  table: PrefixTable,
  force: boolean,
): Promise<IndexAside> {
  if (table.payloadSize !== 0) throw new RangeError("an index has no payload");
  const head = encodeHead(path, { ...meta, count: table.count });
  const file = await openAside(dirname(path), basename(path), force);
  const orRemove = async (error: unknown): Promise<never> => {
    await file.remove();
    throw fileError("Cannot write", path, error);
  };
  try {
    const hash = createHash("sha256");
    const put = async (part: Uint8Array) => {
      for (let done = 0; done < part.length; ) done += (await file.handle.write(part, done)).bytesWritten;
    };
    for (const part of [head, ...pieces(table.records)]) {
      hash.update(part);
      await put(part);
    }
    const digest = hash.digest();
    await put(digest);
    await file.handle.sync();
    await file.handle.close();
    return { digest, publish: () => file.publish().catch(orRemove), remove: () => file.remove() };
  } catch (error) {
    return orRemove(error);
  }
}

/** Writes an index, and gives it its name. Returns the file's digest. Rejects as `indexTarget` and `writeIndexAside`. */
export async function writeIndexFile(
  path: string,
  meta: Omit<IndexMeta, "count">,
  table: PrefixTable,
  { force = false }: { readonly force?: boolean } = {},
): Promise<Uint8Array> {
  const file = await writeIndexAside(await indexTarget(path, force), meta, table, force);
  await file.publish();
  return file.digest;
}

function* pieces(records: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < records.byteLength; at += PIECE) yield records.subarray(at, at + PIECE);
}

/**
 * Reads an index, and takes as much RAM as its records do. Rejects with `input` for what is no index of this version,
 * and with `integrity` for one that is damaged.
 */
export async function readIndexFile(path: string): Promise<IndexFile> {
  let handle: FileHandle | undefined;
  try {
    // Without waiting for whoever would write to a FIFO.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return await readOpen(handle, path);
  } catch (error) {
    throw fileError("Cannot read", path, error);
  } finally {
    await handle?.close();
  }
}

async function readOpen(handle: FileHandle, path: string): Promise<IndexFile> {
  const stats = await handle.stat();
  if (!stats.isFile() && !stats.isDirectory()) throw notAnIndex(path, "is not a regular file");
  const { head, meta } = await readHead(handle, path);
  const length = stats.size - head.length - DIGEST_SIZE;
  const excess = length - meta.count * PREFIX_SIZE;
  if (excess < 0) throw damaged(path, "is cut short");
  if (excess > 0) throw damaged(path, `has ${excess} bytes too many`);
  const hash = createHash("sha256").update(head);
  const records = allocate(path, length);
  let end = 0;
  for (const piece of pieces(records)) {
    if (!(await readInto(handle, piece, head.length + end))) throw damaged(path, "is cut short");
    // Each piece is compared with the record before it as well.
    const from = Math.max(0, end - PREFIX_SIZE);
    end += piece.length;
    if (!isSorted(records.subarray(from, end), 0)) throw damaged(path, "is not in order");
    hash.update(piece);
  }
  const digest = Buffer.alloc(DIGEST_SIZE);
  if (!(await readInto(handle, digest, head.length + end))) throw damaged(path, "is cut short");
  if (Buffer.compare(digest, hash.digest()) !== 0) throw damaged(path, "is not what was written: its digest differs");
  return { meta, table: new PrefixTable(records, 0), digest };
}

/** The size of a file with holes takes nobody any space, so it is no proof of what there is. */
function allocate(path: string, length: number): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (error) {
    const message = `Cannot read "${path}": its ${length} bytes of digests don't fit into memory; make an index of fewer sources`;
    throw new ShrinkerError("input", message, { cause: error });
  }
}
