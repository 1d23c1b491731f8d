import { CancelledError } from "../errors.ts";
import { plainHost } from "./worker-host.ts";
import type { WorkReply } from "./worker-server.ts";

/** What a request counts for beside its bytes: whoever sends us a stream chooses how small its pieces are. */
const REQUEST = 4096;
/** Bytes that may be on their way to the thread and back before `update` makes its caller wait. */
const MAX_AWAY = 8 << 20;

/** SHA-256 of a stream's plain bytes, computed on a thread beside what else is done with them. */
export interface PlainDigest {
  /**
   * Takes the next bytes, and with them their whole `ArrayBuffer`, which is transferred to the thread (a slice that
   * nobody wants back is copied). Resolves when more may be given; never rejects: what went wrong is told by `digest`.
   * @param done called in order once the bytes are hashed, with all of an `ArrayBuffer` of the same size; where they
   * never will be, with why, and the bytes may be lost
   */
  update(bytes: Uint8Array, done?: (buffer: Uint8Array, error?: Error) => void): Promise<void>;
  /** Takes `length` zero bytes. */
  zeros(length: number): void;
  /** The 32 bytes; nothing may be given after. Rejects when the thread fails, or the digest is closed meanwhile. */
  digest(): Promise<Uint8Array>;
  /** Ends it, with its result or without; may be called at any time and again. Every buffer still comes back. */
  close(): void;
}

let lastId = 0;

/** Begins a digest. All of them share one thread, which is started with the first and ends soon after the last. */
export async function openPlainDigest(): Promise<PlainDigest> {
  const host = await plainHost.enter();
  const id = ++lastId;
  const away: { size: number; done: ((buffer: Uint8Array, error?: Error) => void) | undefined }[] = [];
  const result = Promise.withResolvers<Uint8Array>();
  result.promise.catch(() => {});
  let bytesAway = 0;
  /** Zeros that the thread has not been told of: of many runs it gets one. */
  let zeros = 0;
  let room: PromiseWithResolvers<void> | undefined;
  let error: Error | undefined;
  let asked = false;
  let closed = false;

  function take(reply: WorkReply): void {
    if (reply.kind === "buffer") {
      host.owe(-1);
      comeBack(reply.buffer);
    } else if (reply.kind === "digest" && asked) {
      asked = false;
      host.owe(-1);
      result.resolve(reply.digest);
    }
  }

  function comeBack(buffer: ArrayBuffer): void {
    const { size, done } = away.shift()!;
    bytesAway -= size + REQUEST;
    if (bytesAway < MAX_AWAY) {
      room?.resolve();
      room = undefined;
    }
    if (closed && away.length === 0) host.clients.delete(id);
    done?.(new Uint8Array(buffer), error);
  }

  function postZeros(): void {
    if (zeros > 0) host.post({ id, kind: "zeros", length: zeros });
    zeros = 0;
  }

  function fail(reason: Error): void {
    error ??= reason;
    result.reject(reason);
    while (away.length > 0) comeBack(new ArrayBuffer(away[0]!.size));
  }

  host.clients.set(id, { take, fail });
  return {
    async update(bytes, done) {
      if (error) return done?.(new Uint8Array(bytes.buffer), error);
      const shared = !done && bytes.byteLength < bytes.buffer.byteLength;
      const { buffer, byteOffset: start, byteLength } = shared ? bytes.slice() : bytes;
      away.push({ size: buffer.byteLength, done });
      bytesAway += buffer.byteLength + REQUEST;
      host.owe(1);
      postZeros();
      host.post({ id, kind: "bytes", buffer: buffer as ArrayBuffer, start, end: start + byteLength });
      if (bytesAway < MAX_AWAY) return;
      room ??= Promise.withResolvers();
      await room.promise;
    },
    zeros(length) {
      zeros += length;
    },
    digest() {
      if (error) return result.promise;
      asked = true;
      host.owe(1);
      postZeros();
      host.post({ id, kind: "digest" });
      return result.promise;
    },
    close() {
      if (closed) return;
      closed = true;
      if (asked) host.owe(-1);
      asked = false;
      error ??= new CancelledError();
      result.reject(error);
      if (away.length === 0) host.clients.delete(id);
      host.post({ id, kind: "drop" });
      plainHost.leave();
    },
  };
}
