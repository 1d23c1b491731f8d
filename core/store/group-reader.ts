import type { FileHandle } from "node:fs/promises";
import { DIGEST_SIZE } from "../content/page.ts";
import { PageWorker } from "../content/page-worker.ts";
import { packedHost, pageHost } from "../content/worker-host.ts";
import { IntegrityError } from "../errors.ts";
import {
  decodeGroup,
  decodeGroupHeader,
  GROUP_CONTENTS,
  GROUP_HEADER,
  type GroupPages,
  groupLength,
  isGroupBody,
  isGroupHead,
} from "./group.ts";
import { OpenPacks } from "./open-packs.ts";
import { readAt } from "./pack.ts";
import type { Place } from "./pack-writer.ts";

/** Decoded groups that are kept, as neighbours are mostly wanted next: 64 MiB. */
const CACHE_BYTES = 64 << 20;
/** Groups that are read at once, however many are wanted: each takes a descriptor, and up to 8 MiB. */
const MOST = 8;
/** Enough for most groups, in one read. */
const FIRST_READ = GROUP_HEADER + GROUP_CONTENTS * DIGEST_SIZE + (640 << 10);

interface Cached {
  readonly group: Promise<GroupPages>;
  /** 0 until it is read. */
  bytes: number;
}

/** Reads groups by their places, and digests what is in them. What is wanted twice at once is read once; the last ones are kept. */
export class GroupReader {
  readonly #packs: OpenPacks;
  /** The least recently used comes first. */
  readonly #cache = new Map<string, Cached>();
  /** In turn, on two threads: decompressing and digesting is most of what reading costs. */
  readonly #workers = [new PageWorker(packedHost), new PageWorker(pageHost)] as const;
  #turn = 0;
  #cached = 0;
  #reading = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(folder: string) {
    this.#packs = new OpenPacks(folder);
  }

  /** Rejects with an `IntegrityError` where the group is damaged, `input` where it can't be read. */
  read(place: Place): Promise<GroupPages> {
    const key = `${place.pack}:${place.offset}`;
    const hit = this.#cache.get(key);
    if (hit) {
      this.#cache.delete(key);
      this.#cache.set(key, hit);
      return hit.group;
    }
    const entry: Cached = { group: this.#load(place), bytes: 0 };
    this.#cache.set(key, entry);
    entry.group.then(
      ({ pages }) => this.#keep(entry, pages.length),
      () => this.#cache.delete(key),
    );
    return entry.group;
  }

  close(): void {
    this.#cache.clear();
    for (const worker of this.#workers) worker.close();
    this.#packs.close();
  }

  async #load({ pack, offset }: Place): Promise<GroupPages> {
    while (this.#reading >= MOST) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#reading++;
    try {
      const worker = this.#workers[this.#turn++ % 2]!;
      return await this.#packs.read(pack, (handle, path) => load(handle, path, offset, worker));
    } finally {
      this.#reading--;
      this.#waiting.shift()?.();
    }
  }

  #keep(entry: Cached, bytes: number): void {
    entry.bytes = bytes;
    this.#cached += bytes;
    for (const [key, old] of this.#cache) {
      if (this.#cached <= CACHE_BYTES) return;
      if (old.bytes === 0 || old === entry) continue;
      this.#cache.delete(key);
      this.#cached -= old.bytes;
    }
  }
}

async function load(handle: FileHandle, path: string, offset: number, worker: PageWorker): Promise<GroupPages> {
  let bytes = await readAt(handle, path, offset, FIRST_READ);
  const header = decodeGroupHeader(bytes, 0);
  if (!header) throw damaged(path, offset);
  const length = groupLength(header);
  if (length > bytes.length) bytes = await readAt(handle, path, offset, length);
  const stored = bytes.subarray(GROUP_HEADER + header.count * DIGEST_SIZE, length);
  if (!isGroupHead(bytes, 0, header) || !isGroupBody(header, stored)) throw damaged(path, offset);
  return decodeGroup(header, stored, worker);
}

function damaged(path: string, offset: number): IntegrityError {
  return new IntegrityError(`"${path}" is damaged at byte ${offset}: shrinker verify tells which snapshots that harms`);
}
