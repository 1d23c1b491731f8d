import { compareBytes } from "../content/compare.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { PageWorker } from "../content/page-worker.ts";
import { SizedPool } from "../content/sized-pool.ts";
import { packedHost, pageHost } from "../content/worker-host.ts";
import { IntegrityError } from "../errors.ts";
import { decodeGroup, type GroupMemory, type GroupPages, groupLength } from "./group.ts";
import type { ScannedGroup } from "./pack.ts";

/** Groups that are decompressed and digested at once: up to 8 MiB each. */
const MOST = 4;
/** Memory of the largest group, a little more for its decompression; and what of such is kept for the next ones. */
const ROOM = 8 << 20;
const KEPT = 2 * MOST * ROOM;

/** A group that was read, and what is right of it. */
export interface OpenedGroup {
  readonly offset: number;
  readonly count: number;
  /** Of the whole group, in its pack. */
  readonly bytes: number;
  readonly digests: Buffer;
  /** The contents, valid until the next group is asked for; undefined where they can't be had, or were not asked for. */
  readonly pages: Uint8Array | undefined;
  /** For each content: 1 where it is what its digest says. */
  readonly right: Uint8Array;
  /** What is wrong with the group, where anything is. */
  readonly why: string | undefined;
}

const CHECKSUM = "the contents of a group don't match their checksum";

/** Groups by their checksums alone: nothing is decompressed. */
export async function* checkGroups(groups: AsyncIterable<ScannedGroup>): AsyncGenerator<OpenedGroup, void, undefined> {
  for await (const group of groups) yield describe(group, group.digests);
}

/** Decompresses groups and checks the SHA-256 of their contents, several at once and on other threads, in their order. */
export async function* openGroups(groups: AsyncIterable<ScannedGroup>): AsyncGenerator<OpenedGroup, void, undefined> {
  const workers = [new PageWorker(packedHost), new PageWorker(pageHost)] as const;
  const opening: Promise<Opened>[] = [];
  /** Of groups that were looked at. */
  const pool = new SizedPool(ROOM, KEPT);
  async function* next(): AsyncGenerator<OpenedGroup, void, undefined> {
    const { group, memory } = await opening.shift()!;
    yield group;
    for (const part of memory ? [memory.stored, memory.pages] : []) pool.give(new Uint8Array(part));
  }
  let turn = 0;
  let broke: { error: unknown } | undefined;
  try {
    try {
      for await (const group of groups) {
        const opened = open(group, workers[turn++ % 2]!, pool);
        opened.catch(() => {});
        opening.push(opened);
        if (opening.length >= MOST) yield* next();
      }
    } catch (error) {
      broke = { error };
    }
    // What was read before it broke is right all the same.
    while (opening.length > 0) yield* next();
  } finally {
    for (const worker of workers) worker.close();
  }
  if (broke) throw broke.error;
}

interface Opened {
  readonly group: OpenedGroup;
  /** What its contents lie in, and what they were read from. */
  readonly memory?: GroupMemory;
}

/** Takes copies before it waits for anything: the scan goes on. */
async function open(group: ScannedGroup, worker: PageWorker, pool: SizedPool): Promise<Opened> {
  const { header } = group;
  const described = describe(group, Buffer.from(group.digests));
  if (!group.whole) return { group: described };
  const length = group.stored.length;
  const { buffer } = pool.take(length);
  const stored = new Uint8Array(buffer, 0, length);
  stored.set(group.stored);
  let found: GroupPages & { readonly memory: GroupMemory };
  try {
    // Decompressing takes a byte more than the pages.
    found = await decodeGroup(header, stored, worker, pool.take(header.count * PAGE_SIZE + 1).buffer);
  } catch (error) {
    if (!(error instanceof IntegrityError)) throw error;
    return { group: { ...described, right: new Uint8Array(header.count), why: error.message } };
  }
  const { right, digests, count } = described;
  let wrong = 0;
  for (let i = 0; i < count; i++) {
    if (compareBytes(found.digests, i * DIGEST_SIZE, digests, i * DIGEST_SIZE, DIGEST_SIZE) === 0) continue;
    right[i] = 0;
    wrong++;
  }
  const why = wrong > 0 ? `${wrong} contents of a group are not what their digests say` : undefined;
  return { group: { ...described, pages: found.pages, why }, memory: found.memory };
}

function describe({ offset, header, whole }: ScannedGroup, digests: Buffer): OpenedGroup {
  const { count } = header;
  const right = new Uint8Array(count).fill(whole ? 1 : 0);
  return {
    offset,
    count,
    bytes: groupLength(header),
    digests,
    pages: undefined,
    right,
    why: whole ? undefined : CHECKSUM,
  };
}
