import type { FileHandle } from "node:fs/promises";

/** Written bytes after which they begin to be synced. */
const EARLY_BYTES = 32 << 20;

/** Syncs a file beside what is still being written to it, so that little is left for the last sync. */
export class EarlySync {
  readonly #handle: FileHandle;
  #begunAt: number;
  #going: Promise<void> | undefined;
  /** The kernel tells only once that a sync has failed. */
  #error: unknown;

  /** @param end bytes of the file that need no sync */
  constructor(handle: FileHandle, end = 0) {
    this.#handle = handle;
    this.#begunAt = end;
  }

  /** The file has been written up to `end`. */
  written(end: number): void {
    if (this.#going || end - this.#begunAt < EARLY_BYTES) return;
    this.#begunAt = end;
    const sync = async () => {
      try {
        await this.#handle.datasync();
      } catch (error) {
        this.#error = error;
      }
      this.#going = undefined;
    };
    this.#going = sync();
  }

  /** Resolves when nothing is being synced; to be awaited before the file is closed. Never rejects. */
  async settled(): Promise<void> {
    await this.#going;
  }

  /** Makes all that was written last. Rejects with why that failed, now or before. */
  async finish(): Promise<void> {
    await this.#going;
    await this.#handle.datasync();
    if (this.#error !== undefined) throw this.#error;
  }
}
