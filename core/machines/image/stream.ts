import { CancelledError, fileError } from "../../errors.ts";
import type { Reader } from "./reader.ts";

/** Milliseconds after which what has come is handed out although the buffer isn't full. */
export const PATIENCE_MS = 20;

/** What is read of a runtime's stream, such as `process.stdin`. */
export interface InputStream extends AsyncIterable<Uint8Array> {
  destroy(): unknown;
}

/**
 * Reads a stream of the runtime, which copes with terminals, sockets and pipes that don't block, where reading the
 * descriptor would not. Its pieces (64 KiB from a pipe) are gathered until the buffer is full or no more comes for now.
 * @param name for messages
 */
export function streamReader(stream: InputStream, name: string) {
  const input = stream[Symbol.asyncIterator]();
  let pending: Promise<IteratorResult<Uint8Array, unknown>> | undefined;
  let rest: Uint8Array = new Uint8Array(0);
  let ended = false;
  let interrupt = () => {};

  /** The next step of the input; undefined if it is late and the caller is impatient. */
  async function arrival(patient: boolean) {
    pending ??= input.next();
    const first = Promise.withResolvers<IteratorResult<Uint8Array, unknown> | undefined>();
    // Destroying the stream would do, but on Deno standard input leaves a pending read waiting (and the process, until
    // its end is told by `process.exit`).
    interrupt = () => first.reject(new CancelledError());
    pending.then(first.resolve, first.reject);
    const timer = patient ? undefined : setTimeout(() => first.resolve(undefined), PATIENCE_MS);
    try {
      return await first.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Fetches the next bytes to `rest`; false if they are late and the caller is impatient. */
  async function more(patient: boolean): Promise<boolean> {
    const step = await arrival(patient);
    if (!step) return false;
    pending = undefined;
    if (step.done) ended = true;
    else rest = step.value;
    return true;
  }

  async function read(buffer: Uint8Array): Promise<number> {
    let got = 0;
    try {
      while (got < buffer.length && (rest.length > 0 || !ended)) {
        if (rest.length === 0 && !(await more(got === 0))) break;
        const part = rest.subarray(0, buffer.length - got);
        buffer.set(part, got);
        rest = rest.subarray(part.length);
        got += part.length;
      }
    } catch (error) {
      throw fileError("Cannot read", name, error);
    }
    return got;
  }

  const reader: Reader = {
    hole: () => 0,
    read,
    async finish() {},
    interrupt() {
      interrupt();
      stream.destroy();
    },
    async close() {},
  };
  return {
    reader,
    /** The first `length` bytes, or all if the stream is shorter; the reader still gives them. */
    async peek(length: number): Promise<Uint8Array> {
      const head = Buffer.alloc(length);
      let got = 0;
      while (got < length && !ended) got += await read(head.subarray(got));
      rest = Buffer.concat([head.subarray(0, got), rest]);
      return head.subarray(0, got);
    },
  };
}
