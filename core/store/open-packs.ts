import { constants, type FileHandle, open } from "node:fs/promises";
import { fileError } from "../errors.ts";
import { packPath } from "./pack.ts";

/** Packs that stay open although nobody reads them. */
const KEPT = 4;

interface OpenPack {
  readonly handle: Promise<FileHandle>;
  readers: number;
}

/** Packs that are open to be read. One that was read from last stays open: the next group is mostly in it. */
export class OpenPacks {
  readonly #folder: string;
  /** The least recently used comes first. */
  readonly #packs = new Map<number, OpenPack>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Has `use` read from a pack. Rejects with `input` where it can't be opened, and with what `use` rejects with. */
  async read<T>(number: number, use: (handle: FileHandle, path: string) => Promise<T>): Promise<T> {
    const path = packPath(this.#folder, number);
    const pack = this.#packs.get(number) ?? { handle: openPack(path), readers: 0 };
    this.#packs.delete(number);
    this.#packs.set(number, pack);
    pack.readers++;
    // Another reader tries again.
    pack.handle.catch(() => this.#packs.delete(number));
    try {
      return await use(await pack.handle, path);
    } finally {
      pack.readers--;
      // Whoever reads next may open another one: until these are closed they count.
      await this.#trim(KEPT);
    }
  }

  /** To be called when nobody reads any more. */
  close(): void {
    void this.#trim(0);
  }

  /** Closes those that nobody reads, until so few are open. Never rejects. */
  async #trim(kept: number): Promise<void> {
    const closed: Promise<void>[] = [];
    for (const [number, { handle, readers }] of this.#packs) {
      if (this.#packs.size <= kept) break;
      if (readers > 0) continue;
      this.#packs.delete(number);
      closed.push(handle.then((open) => open.close()).catch(() => {}));
    }
    await Promise.all(closed);
  }
}

async function openPack(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
}
