import { compareBytes } from "../content/compare.ts";
import { DIGEST_SIZE } from "../content/page.ts";
import { PageWorker } from "../content/page-worker.ts";
import { packedHost, pageHost } from "../content/worker-host.ts";
import { IntegrityError } from "../errors.ts";
import { decodeGroup, type GroupPages, groupLength } from "./group.ts";
import type { ScannedGroup } from "./pack.ts";

/** Groups that are decompressed and digested at once: up to 8 MiB each. */
const MOST = 4;

/** A group that was read, and what is right of it. */
export interface OpenedGroup {
  readonly offset: number;
  readonly count: number;
  /** Of the whole group, in its pack. */
  readonly bytes: number;
  readonly digests: Buffer;
  /** The contents; undefined where they can't be had, or were not asked for. */
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
  const opening: Promise<OpenedGroup>[] = [];
  let turn = 0;
  let broke: { error: unknown } | undefined;
  try {
    try {
      for await (const group of groups) {
        const opened = open(group, workers[turn++ % 2]!);
        opened.catch(() => {});
        opening.push(opened);
        if (opening.length >= MOST) yield await opening.shift()!;
      }
    } catch (error) {
      broke = { error };
    }
    // What was read before it broke is right all the same.
    while (opening.length > 0) yield await opening.shift()!;
  } finally {
    for (const worker of workers) worker.close();
  }
  if (broke) throw broke.error;
}

/** Takes copies before it waits for anything: the scan goes on. */
async function open(group: ScannedGroup, worker: PageWorker): Promise<OpenedGroup> {
  const { header } = group;
  const described = describe(group, Buffer.from(group.digests));
  if (!group.whole) return described;
  let found: GroupPages;
  try {
    found = await decodeGroup(header, new Uint8Array(group.stored), worker);
  } catch (error) {
    if (!(error instanceof IntegrityError)) throw error;
    return { ...described, right: new Uint8Array(header.count), why: error.message };
  }
  const { right, digests, count } = described;
  let wrong = 0;
  for (let i = 0; i < count; i++) {
    if (compareBytes(found.digests, i * DIGEST_SIZE, digests, i * DIGEST_SIZE, DIGEST_SIZE) === 0) continue;
    right[i] = 0;
    wrong++;
  }
  const why = wrong > 0 ? `${wrong} contents of a group are not what their digests say` : undefined;
  return { ...described, pages: found.pages, why };
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
