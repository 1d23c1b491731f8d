import { openPlainDigest } from "../../content/plain-digest.ts";
import { fileError, ShrinkerError } from "../../errors.ts";
import type { AsideFile } from "../../files/aside.ts";
import { EarlySync } from "../../files/early-sync.ts";
import type { StreamInfo, StreamSink } from "../machine.ts";
import { dataRuns } from "./data-runs.ts";
import { countLength } from "./length.ts";

/** The last time that a `Date` can hold, in milliseconds. */
const MAX_TIME = 8.64e15;

/**
 * Writes a stream to a file, in order. Zeros are not written: they stay holes. Bytes are hashed on another thread once
 * they are written, while the next are.
 */
export async function fileSink(file: AsideFile, info: StreamInfo, withDigest: boolean): Promise<StreamSink> {
  const digest = withDigest ? await openPlainDigest() : undefined;
  const { handle, path } = file;
  const length = countLength(info);
  const sync = new EarlySync(handle);
  let result: Promise<Uint8Array> | undefined;
  let committed = false;

  async function writeAll(bytes: Uint8Array): Promise<void> {
    const start = length.advance(bytes.length);
    for (const [from, to] of dataRuns(bytes, start)) {
      for (let done = from; done < to; ) {
        done += (await handle.write(bytes, done, to - done, start + done)).bytesWritten;
      }
    }
    sync.written(start + bytes.length);
  }

  return {
    async write(piece) {
      try {
        await writeAll(piece.bytes);
      } catch (error) {
        piece.release?.();
        throw fileError("Cannot write", path, error);
      }
      const back = piece.release && ((buffer: Uint8Array) => piece.release?.(buffer));
      if (digest) await digest.update(piece.bytes, back);
      else piece.release?.();
    },
    async zeros(count) {
      length.advance(count);
      digest?.zeros(count);
    },
    async finish() {
      length.finish();
      result = digest?.digest();
      void result?.catch(() => {}).then(() => digest?.close());
      try {
        await handle.truncate(length.total);
        await setAttributes(file, info);
        await sync.finish();
        await handle.sync();
        await handle.close();
      } catch (error) {
        throw fileError("Cannot write", path, error);
      }
    },
    ...(digest && {
      plainDigest: () => result ?? Promise.reject(new ShrinkerError("bug", `"${info.name}" is not finished`)),
    }),
    async commit() {
      await file.publish();
      committed = true;
    },
    async abort() {
      // What has landed stays, and its digest may still be asked for.
      if (committed) return;
      digest?.close();
      await sync.settled();
      await file.remove();
    },
  };
}

/** As at the source, but never set-user-id and its like. A file system that has no modes or times keeps its own. */
async function setAttributes({ handle }: AsideFile, { mode, mtime }: StreamInfo): Promise<void> {
  if (mode !== undefined) await handle.chmod(mode & 0o777).catch(() => {});
  if (mtime !== undefined && Math.abs(mtime) <= MAX_TIME) {
    await handle.utimes(mtime / 1000, mtime / 1000).catch(() => {});
  }
}
