import { ProtocolError, type ShrinkerError } from "../../errors.ts";
import type { Channel } from "./channel.ts";
import {
  CHUNK,
  CHUNK_DONE,
  CHUNK_ERROR,
  CHUNK_LENGTH,
  CHUNK_MAGIC,
  DATA_HEADER,
  decodeExtents,
  describeError,
  type Extent,
  HOLE_HEADER,
  REPLY_HEADER,
  SIMPLE_REPLY_MAGIC,
} from "./protocol.ts";

/** Extents of one reply; QEMU never gives more (1 MiB of them). */
const MAX_EXTENTS = 1 << 17;
/** An error: its numbers and a text of at most 4096 bytes. */
const MAX_ERROR = 4096 + 14;
/** What is shown of such a text. */
const MAX_SHOWN = 200;

/** A request that waits for its reply. */
export interface Request {
  readonly offset: number;
  readonly length: number;
  /** Where the bytes of a read go; undefined for one of extents. */
  readonly into: Uint8Array | undefined;
  /** What has come: of a read, an empty list. */
  extents: Extent[] | undefined;
  error: string | undefined;
  readonly done: PromiseWithResolvers<Extent[]>;
}

export interface ReplyOptions {
  /** Bytes of the disk. */
  readonly size: number;
  readonly context: number | undefined;
  /** An error that names the disk. */
  readonly unfit: (why: string) => ShrinkerError;
}

/**
 * Takes replies and settles the requests that they belong to, until the channel fails. Rejects with a `ProtocolError` for
 * a reply to nothing, and for every one that is not exactly what was asked for.
 * @param pending by handle; what has been answered is removed
 */
export async function takeReplies(
  channel: Channel,
  pending: Map<number, Request>,
  { size, context, unfit }: ReplyOptions,
): Promise<never> {
  const header = Buffer.alloc(REPLY_HEADER);
  for (;;) {
    await channel.fill(header);
    const magic = header.readUInt32BE(0);
    const handle = header.readUInt32BE(12);
    const request = header.readUInt32BE(8) === 0 ? pending.get(handle) : undefined;
    if (magic !== SIMPLE_REPLY_MAGIC && magic !== CHUNK_MAGIC) throw new ProtocolError("a reply has no magic number");
    if (!request) throw new ProtocolError("it answers a request that was not made");
    let done = true;
    if (magic === SIMPLE_REPLY_MAGIC) {
      const error = header.readUInt32BE(4);
      if (error === 0) throw new ProtocolError("a reply has no structure");
      request.error = describeError(error);
    } else {
      done = (header.readUInt16BE(4) & CHUNK_DONE) !== 0;
      await takeChunk(request, header.readUInt16BE(6), done);
    }
    if (!done) continue;
    if (request.error === undefined && !request.extents)
      throw new ProtocolError("a reply ends without what was asked for");
    pending.delete(handle);
    if (request.error === undefined) request.done.resolve(request.extents!);
    else request.done.reject(unfit(`${request.error}, at byte ${request.offset} of the disk`));
  }

  async function takeChunk(request: Request, type: number, done: boolean): Promise<void> {
    const length = (await channel.take(CHUNK_LENGTH)).readUInt32BE(0);
    if (type === CHUNK.NONE && length === 0 && done) return;
    if (type >= CHUNK_ERROR) {
      if (request.error !== undefined) throw new ProtocolError("a reply has two errors");
      request.error = await takeError(length);
      return;
    }
    // Of each chunk that is known there may be one; so no reply is endless.
    if (request.extents) throw new ProtocolError("a reply has two contents");
    request.extents = [];
    if (request.into && type === CHUNK.DATA) {
      await takePlace(request, length, DATA_HEADER, request.length);
      await channel.fill(request.into);
    } else if (request.into && type === CHUNK.HOLE) {
      const place = await takePlace(request, length, HOLE_HEADER, 0);
      if (place.readUInt32BE(8) !== request.length) throw new ProtocolError("a hole is not as long as the read");
      request.into.fill(0);
    } else if (!request.into && type === CHUNK.BLOCK_STATUS && context !== undefined) {
      if (length < 12 || length % 8 !== 4 || length > 4 + 8 * MAX_EXTENTS)
        throw new ProtocolError(`it tells extents in ${length} bytes`);
      request.extents = decodeExtents(await channel.take(length), context, size - request.offset);
    } else throw new ProtocolError(`a reply has a chunk of type ${type}`);
  }

  /** Takes what precedes the `rest` of a content: its offset and, of a hole, its length. */
  async function takePlace(request: Request, length: number, header: number, rest: number): Promise<Buffer> {
    if (length !== header + rest) throw new ProtocolError(`it answers ${request.length} bytes with ${length}`);
    const place = await channel.take(header);
    if (place.readBigUInt64BE(0) !== BigInt(request.offset)) throw new ProtocolError("it answers with other bytes");
    return place;
  }

  async function takeError(length: number): Promise<string> {
    if (length < 6 || length > MAX_ERROR) throw new ProtocolError(`it tells an error in ${length} bytes`);
    const payload = await channel.take(length);
    const text = payload.toString("utf8", 6, 6 + payload.readUInt16BE(4)).slice(0, MAX_SHOWN);
    return text || describeError(payload.readUInt32BE(0));
  }
}
