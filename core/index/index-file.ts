import { createHash } from "node:crypto";
import { constants, type FileHandle, open } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { DIGEST_SIZE } from "../content/page.ts";
import { fileError, ShrinkerError } from "../errors.ts";
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

/**
 * Writes what a site holds to a file, readable by its owner only: aside, synced, and only then under its name. Returns the
 * file's digest. Rejects with `usage` for a meta that does not fit into an index, `exists` for a path that is taken.
 * @param table without payload
 */
export async function writeIndexFile(
  path: string,
  meta: Omit<IndexMeta, "count">,
  table: PrefixTable,
  options: { readonly force?: boolean } = {},
): Promise<Uint8Array> {
  if (table.payloadSize !== 0) throw new RangeError("an index has no payload");
  const head = encodeHead(path, { ...meta, count: table.count });
  const file = await openAside(dirname(path), basename(path), options.force ?? false);
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
    await file.publish();
    return digest;
  } catch (error) {
    await file.remove();
    throw fileError("Cannot write", path, error);
  }
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
