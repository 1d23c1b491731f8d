import { BufferPool } from "../../content/buffer-pool.ts";
import type { PlainDigest } from "../../content/plain-digest.ts";
import { abortReason, CancelledError } from "../../errors.ts";
import type { Piece } from "../machine.ts";
import type { Reader } from "./reader.ts";

const BUFFER_SIZE = 1 << 20;
/**
 * Of a stream: six being read or hashed, and those that the consumer holds. A pool is one stream's, so that a stream
 * whose consumer is stalled stops no other.
 */
const BUFFERS = 8;
const AHEAD = 6;

/** What was read: `digested` resolves when its bytes are back from the digest, and undefined is the end. */
interface Step {
  readonly digested: Promise<Piece | undefined>;
}

/**
 * Reads ahead of the consumer: one piece is read while those before it are hashed on another thread and used by the
 * consumer. Bytes are hashed before they are handed out, so the digest doesn't depend on what the consumer does to them.
 * @param digest is given everything, in order
 */
export async function* readPieces(
  reader: Reader,
  digest: PlainDigest | undefined,
  signal: AbortSignal,
): AsyncGenerator<Piece, void, undefined> {
  const pool = new BufferPool(BUFFERS, BUFFER_SIZE);
  const cancel = () => {
    pool.close(abortReason(signal));
    reader.interrupt?.();
  };
  signal.addEventListener("abort", cancel);

  let ended = false;
  const handOut = (buffer: Uint8Array, length: number): Piece => ({
    bytes: buffer.subarray(0, length),
    release: (other) => pool.give(other ?? buffer),
  });

  async function step(): Promise<Step> {
    if (ended) return { digested: Promise.resolve(undefined) };
    signal.throwIfAborted();
    const zeros = await reader.hole();
    if (zeros > 0) {
      digest?.zeros(zeros);
      return { digested: Promise.resolve({ zeros }) };
    }
    const buffer = await pool.take();
    const length = await reader.read(buffer);
    if (length === 0) {
      ended = true;
      await reader.finish();
      return { digested: Promise.resolve(undefined) };
    }
    if (!digest) return { digested: Promise.resolve(handOut(buffer, length)) };
    const digested = new Promise<Piece>((resolve, reject) => {
      void digest.update(buffer.subarray(0, length), (back, error) => {
        if (error) reject(error);
        else resolve(handOut(back, length));
      });
    });
    // What was read ahead is not waited for once the consumer has stopped.
    digested.catch(() => {});
    return { digested };
  }

  const ahead: Promise<Step>[] = [];
  let last: Promise<unknown> = Promise.resolve();
  try {
    for (;;) {
      while (ahead.length < AHEAD) {
        const next = last.then(step);
        next.catch(() => {});
        last = next;
        ahead.push(next);
      }
      const { digested } = await ahead.shift()!;
      const piece = await digested;
      if (signal.aborted) throw abortReason(signal);
      if (!piece) return;
      yield piece;
    }
  } catch (error) {
    throw signal.aborted ? abortReason(signal) : error;
  } finally {
    signal.removeEventListener("abort", cancel);
    pool.close(new CancelledError());
    reader.interrupt?.();
    await last.catch(() => {});
    await reader.close();
  }
}
