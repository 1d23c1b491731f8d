import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { openPlainDigest } from "../../content/plain-digest.ts";
import { CancelledError, fileError, ShrinkerError } from "../../errors.ts";
import { segmentFormats, sniffFormat } from "../../segment/registry.ts";
import type { StreamInfo, StreamSource } from "../machine.ts";
import { fileReader, openFile } from "./file.ts";
import { checkStreamName } from "./name.ts";
import { readPieces } from "./pieces.ts";
import type { Reader } from "./reader.ts";
import { type InputStream, streamReader } from "./stream.ts";

/** Bytes that a format is told by. */
const HEAD = 512;

export interface ImageSpec {
  /** What the stream is called at the destination; else the file's base name. */
  readonly name?: string;
  /** A file, a block device, or `-` for standard input. */
  readonly path: string;
  /** A segmenter's name; else told by the first bytes. */
  readonly format?: string;
  /** Whether to compute the SHA-256 of the plain bytes, 1.6 GB/s on a thread of its own; the default. */
  readonly digest?: boolean;
  /** What `-` stands for; `process.stdin` unless given. */
  readonly stdin?: InputStream;
}

/**
 * Opens a file as a stream: a disk image, raw memory, a saved QEMU stream. Containers such as qcow2 move as they are.
 * Rejects with `input` for a file that can't be read, `refused` for its name, `usage` for an unknown format.
 */
export async function openImage(spec: ImageSpec): Promise<StreamSource> {
  if (spec.format !== undefined && !segmentFormats.has(spec.format)) {
    const known = [...segmentFormats.keys()].join(", ");
    throw new ShrinkerError("usage", `Unknown format "${spec.format}" for "${spec.path}": use one of ${known}`);
  }
  const withDigest = spec.digest ?? true;
  if (spec.path === "-") {
    const name = checkStreamName(spec.name ?? "stdin");
    const { reader, peek } = streamReader(spec.stdin ?? process.stdin, "standard input");
    const format = spec.format ?? sniffFormat(await peek(HEAD));
    return readerSource({ name, format }, async () => reader, withDigest);
  }
  const name = checkStreamName(spec.name ?? basename(spec.path));
  const { handle, found } = await openFile(spec.path);
  try {
    const format = spec.format ?? sniffFormat(await readHead(handle, spec.path));
    const { stats, size } = found;
    const info: StreamInfo = {
      name,
      format,
      ...(size === undefined ? {} : { size }),
      ...(stats.isFile() ? { mode: stats.mode & 0o7777, mtime: stats.mtimeMs } : {}),
    };
    return readerSource(info, () => fileReader(spec.path, found), withDigest);
  } finally {
    await handle.close();
  }
}

async function readHead(handle: FileHandle, path: string): Promise<Uint8Array> {
  const head = new Uint8Array(HEAD);
  try {
    const { bytesRead } = await handle.read(head, 0, HEAD, 0);
    return head.subarray(0, bytesRead);
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
}

/** A source of what a reader reads. The reader is opened once the pieces are asked for, and then closed with them. */
export function readerSource(info: StreamInfo, open: () => Promise<Reader>, withDigest: boolean): StreamSource {
  if (!withDigest) {
    return {
      info,
      async *pieces(signal) {
        yield* readPieces(await open(), undefined, signal);
      },
    };
  }
  const result = Promise.withResolvers<Uint8Array>();
  result.promise.catch(() => {});
  return {
    info,
    async *pieces(signal) {
      const digest = await openPlainDigest();
      let whole = false;
      try {
        yield* readPieces(await open(), digest, signal);
        whole = true;
      } finally {
        if (!whole) result.reject(new CancelledError(`"${info.name}" was not read to its end`));
        // Not waited for: the stream has ended, though a hole at its end may still be being hashed.
        else result.resolve(digest.digest());
        void result.promise.catch(() => {}).then(() => digest.close());
      }
    },
    plainDigest: () => result.promise,
  };
}
