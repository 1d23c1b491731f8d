import { constants, type FileHandle, open, truncate, unlink } from "node:fs/promises";
import { fileError, ShrinkerError } from "../errors.ts";
import { EarlySync } from "../files/early-sync.ts";
import { syncFolder } from "../files/whole.ts";
import { MAX_PACKS, PACK_BYTES, PACK_HEADER, packHeader, packPath } from "./pack.ts";

/** Where a group lies. */
export interface Place {
  readonly pack: number;
  readonly offset: number;
}

/** Appends groups to packs, one after the other; calls don't overlap. What was written is lasting after `sync`. */
export class PackWriter {
  readonly #folder: string;
  #number: number;
  #handle: FileHandle | undefined;
  #end: number;
  #unsynced = false;
  /** Whether the folder has to be synced for the pack that is written. */
  #made = false;
  readonly #created = new Set<number>();
  #sync: EarlySync | undefined;

  /**
   * @param number the pack that is appended to, or made
   * @param end bytes of it that are right; what lies behind them is cut off. 0 makes it
   */
  constructor(folder: string, number: number, end: number) {
    this.#folder = folder;
    this.#number = number;
    this.#end = end;
  }

  /** Of the pack that takes the next group: its number, and how much it has. */
  get position(): Place {
    return { pack: this.#number, offset: this.#end };
  }

  /** Appends a group, in parts. Rejects with `space` or `input`; the pack then ends before it. */
  async append(parts: readonly Uint8Array[]): Promise<Place> {
    if (this.#end >= PACK_BYTES) await this.#next();
    const handle = await this.#open();
    const place = { pack: this.#number, offset: this.#end };
    let at = place.offset;
    try {
      for (const part of parts) at += await writeAt(handle, part, at);
    } catch (error) {
      throw fileError("Cannot write", packPath(this.#folder, this.#number), error);
    }
    this.#end = at;
    this.#unsynced = true;
    this.#sync!.written(at);
    return place;
  }

  /** Makes what was written last. */
  async sync(): Promise<void> {
    if (!this.#unsynced) return;
    try {
      await this.#sync!.finish();
    } catch (error) {
      throw fileError("Cannot write", packPath(this.#folder, this.#number), error);
    }
    if (this.#made) await syncFolder(this.#folder);
    this.#made = false;
    this.#unsynced = false;
  }

  async close(): Promise<void> {
    await this.#sync?.settled();
    await this.#handle?.close().catch(() => {});
    this.#handle = undefined;
  }

  /**
   * Closes, and cuts off what was appended behind a place: once an append has failed for want of room, nothing will name it, and
   * whatever comes next needs that room. Never rejects.
   */
  async cutBack({ pack, offset }: Place): Promise<void> {
    await this.close();
    for (const number of this.#created) {
      if (number > pack || offset === 0) await unlink(packPath(this.#folder, number)).catch(() => {});
    }
    if (offset > 0 && this.#number >= pack) await truncate(packPath(this.#folder, pack), offset).catch(() => {});
  }

  async #next(): Promise<void> {
    await this.sync();
    await this.close();
    this.#number++;
    this.#end = 0;
  }

  async #open(): Promise<FileHandle> {
    if (this.#handle) return this.#handle;
    if (this.#number > MAX_PACKS) {
      const message = `The store has ${MAX_PACKS} packs, its limit: shrinker prune --repack makes fewer of them`;
      throw new ShrinkerError("space", message);
    }
    const fresh = this.#end === 0;
    const handle = await (fresh ? createPack : openPack)(this.#folder, this.#number, this.#end);
    if (fresh) this.#end = PACK_HEADER;
    if (fresh) this.#created.add(this.#number);
    this.#made ||= fresh;
    this.#handle = handle;
    this.#sync = new EarlySync(handle, this.#end);
    return handle;
  }
}

/** Makes an empty pack. Rejects with `exists`, `space` or `input`, and leaves nothing then. */
export async function createPack(folder: string, number: number): Promise<FileHandle> {
  const path = packPath(folder, number);
  const { O_RDWR, O_CREAT, O_EXCL } = constants;
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
    await writeAt(handle, packHeader(), 0);
    return handle;
  } catch (error) {
    await handle?.close().catch(() => {});
    // Without a beginning it would be in the way of the next attempt.
    if (handle) await unlink(path).catch(() => {});
    throw fileError("Cannot write", path, error);
  }
}

/** Opens a pack whose first `end` bytes are right, and cuts off what follows. */
async function openPack(folder: string, number: number, end: number): Promise<FileHandle> {
  const path = packPath(folder, number);
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
    await handle.truncate(end);
    return handle;
  } catch (error) {
    await handle?.close().catch(() => {});
    throw fileError("Cannot write", path, error);
  }
}

async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
  return done;
}
