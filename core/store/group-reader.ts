import type { FileHandle } from "node:fs/promises";
import { DIGEST_SIZE } from "../content/page.ts";
import { PageWorker } from "../content/page-worker.ts";
import { packedHost, pageHost } from "../content/worker-host.ts";
import { IntegrityError } from "../errors.ts";
import {
  decodeGroup,
  decodeGroupHeader,
  GROUP_HEADER,
  GROUP_ROOM,
  type GroupMemory,
  type GroupPages,
  groupLength,
  isGroupBody,
  isGroupHead,
} from "./group.ts";
import { OpenPacks } from "./open-packs.ts";
import { readInto } from "./pack.ts";
import type { Place } from "./pack-writer.ts";

/** Decoded groups that are kept, as neighbours are mostly wanted next: 64 MiB. */
const CACHE_BYTES = 64 << 20;
/** Groups that are read at once, however many are wanted: each takes a descriptor, and up to 8 MiB. */
const MOST = 8;
/** Read of the first group; of another, as much as of the largest of the last ones. */
const FIRST_READ = 256 << 10;

/** A group that is decoded. */
interface Decoded extends GroupPages {
  readonly memory: GroupMemory;
}

interface Cached {
  readonly group: Promise<Decoded>;
  /** Its memory; undefined until it is read. */
  decoded: Decoded | undefined;
  /** Who has asked for it and hasn't seen it yet. */
  users: number;
}

/** Reads groups by their places, and digests what is in them. What is wanted twice at once is read once; the last ones are kept. */
export class GroupReader {
  readonly #cacheBytes: number;
  readonly #packs: OpenPacks;
  /** The least recently used comes first. */
  readonly #cache = new Map<string, Cached>();
  /** In turn, on two threads: decompressing and digesting is most of what reading costs. */
  readonly #workers = [new PageWorker(packedHost), new PageWorker(pageHost)] as const;
  /** Memory of groups as they arrive, to be used again: touching new memory takes as long as digesting what is put there. */
  readonly #stored: ArrayBuffer[] = [];
  readonly #pages: ArrayBuffer[] = [];
  #usual = FIRST_READ;
  #turn = 0;
  #cached = 0;
  #reading = 0;
  readonly #waiting: (() => void)[] = [];

  /** @param cacheBytes memory of the groups that are kept */
  constructor(folder: string, cacheBytes = CACHE_BYTES) {
    this.#cacheBytes = cacheBytes;
    this.#packs = new OpenPacks(folder);
  }

  /**
   * Shows a group to `use`, which must not keep any of it. Rejects with an `IntegrityError` where the group is damaged,
   * `input` where it can't be read.
   */
  async read(place: Place, use: (group: GroupPages) => void): Promise<void> {
    const key = `${place.pack}:${place.offset}`;
    let entry = this.#cache.get(key);
    if (entry) this.#cache.delete(key);
    else entry = { group: this.#load(place), decoded: undefined, users: 0 };
    this.#cache.set(key, entry);
    entry.users++;
    try {
      const decoded = await entry.group;
      use(decoded);
      if (!entry.decoded) this.#cached += decoded.memory.pages.byteLength;
      entry.decoded = decoded;
    } catch (error) {
      if (this.#cache.get(key) === entry && !entry.decoded) this.#cache.delete(key);
      throw error;
    } finally {
      entry.users--;
      this.#trim();
    }
  }

  close(): void {
    this.#cache.clear();
    for (const worker of this.#workers) worker.close();
    this.#packs.close();
  }

  async #load({ pack, offset }: Place): Promise<Decoded> {
    while (this.#reading >= MOST) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#reading++;
    try {
      const worker = this.#workers[this.#turn++ % 2]!;
      return await this.#packs.read(pack, async (handle, path) => {
        const group = await this.#decode(handle, path, offset, worker);
        const { stored } = group.memory;
        if (stored.byteLength === GROUP_ROOM && this.#stored.length < MOST) this.#stored.push(stored);
        return group;
      });
    } finally {
      this.#reading--;
      this.#waiting.shift()?.();
    }
  }

  async #decode(handle: FileHandle, path: string, offset: number, worker: PageWorker): Promise<Decoded> {
    let room = Buffer.from(this.#stored.pop() ?? new ArrayBuffer(GROUP_ROOM));
    let bytes = await readInto(handle, path, offset, room, 0, this.#usual);
    const header = decodeGroupHeader(bytes, 0);
    if (!header) throw damaged(path, offset);
    const length = groupLength(header);
    if (length > room.length) {
      room = Buffer.alloc(length);
      bytes.copy(room);
    }
    if (length > bytes.length) bytes = await readInto(handle, path, offset, room, bytes.length, length);
    this.#usual = Math.min(GROUP_ROOM, Math.max(length, this.#usual - (this.#usual >> 4)));
    const stored = bytes.subarray(GROUP_HEADER + header.count * DIGEST_SIZE, length);
    if (!isGroupHead(bytes, 0, header) || !isGroupBody(header, stored)) throw damaged(path, offset);
    return decodeGroup(header, stored, worker, this.#pages.pop() ?? new ArrayBuffer(GROUP_ROOM));
  }

  /** Forgets the groups that were used least recently; nobody may be about to see them. */
  #trim(): void {
    for (const [key, { decoded, users }] of this.#cache) {
      if (this.#cached <= this.#cacheBytes) return;
      if (!decoded || users > 0) continue;
      this.#cache.delete(key);
      const { pages } = decoded.memory;
      this.#cached -= pages.byteLength;
      if (pages.byteLength === GROUP_ROOM && this.#pages.length < MOST) this.#pages.push(pages);
    }
  }
}

function damaged(path: string, offset: number): IntegrityError {
  return new IntegrityError(`"${path}" is damaged at byte ${offset}: shrinker verify tells which snapshots that harms`);
}
