import { fileError } from "../../errors.ts";
import type { Reader } from "./reader.ts";

/** Milliseconds after which what has come is handed out although the buffer isn't full. */
const PATIENCE_MS = 20;
const LATE = Symbol();

/** What is read of a runtime's stream, such as `process.stdin`. */
export interface InputStream extends AsyncIterable<Uint8Array> {
  destroy(): unknown;
}

/** Waits no longer than `PATIENCE_MS`. */
async function soon<T>(promise: Promise<T>): Promise<T | typeof LATE> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(() => resolve(LATE), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
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

  /** Fetches the next bytes to `rest`; false if they are late and the caller is impatient. */
  async function more(patient: boolean): Promise<boolean> {
    pending ??= input.next();
    const next = patient ? await pending : await soon(pending);
    if (next === LATE) return false;
    pending = undefined;
    if (next.done) ended = true;
    else rest = next.value;
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
    interrupt: () => void stream.destroy(),
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
