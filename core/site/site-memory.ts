import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE } from "../content/page.ts";
import type { SiteKnowledge, SiteMemory } from "../engine/site.ts";
import { readSmall } from "../files/small.ts";
import { writeWhole } from "../files/whole.ts";
import { decodeFuseFilter, type FuseFilter } from "../index/fuse-filter.ts";
import type { SiteIndex } from "../index/site-index.ts";
import { LogWriter, trimLogs } from "../store/content-log.ts";
import { folderName } from "../store/layout.ts";
import type { SiteInfo } from "../wire/control.ts";
import { MAX_PAST_LOGS, MAX_SUMMARY } from "../wire/numbers.ts";
import { MAX_PAST_CONTENTS, openLogs, pastContents } from "./past-logs.ts";

/** Bytes of a summary for each bit and content. */
const OVERHEAD = 1.15 / 8;
/** A content that a summary wrongly says is held: it is asked for, and crosses as it is. */
const FALSE_COST = PAGE_SIZE + 100;
/** A summary is pulled where it is at most this share of what moves. */
const WORTH = 1 / 16;
/** A summary that is kept is used while it has this share of the contents. */
const FRESH = 0.9;

export interface SiteMemoryOptions {
  /** Folder for what is remembered, made where it is missing. */
  readonly folder: string;
  readonly domain: string;
  /** Bytes that are going to move, where that is known. */
  readonly plain: number | undefined;
  /** Told where nothing can be remembered. */
  readonly warn: (message: string) => void;
}

/**
 * What a source remembers of sites, in `FOLDER/sites/DOMAIN/SITE/GENERATION`: the logs of sessions with it, and the last
 * summary of what it held. A site that has removed contents is of another generation, and what was known of it is dropped.
 */
export function siteMemory(options: SiteMemoryOptions): SiteMemory {
  return {
    async meet(site, session, summarize) {
      const folder = await openGeneration(options, site).catch((error) => {
        options.warn(`Nothing is remembered of this migration: ${(error as Error).message}`);
        return undefined;
      });
      const past = folder === undefined ? undefined : await recall(folder, site);
      const filter = await learn(folder, site, past?.count ?? 0, options.plain, summarize);
      const log = folder === undefined ? undefined : await beginLog(folder, session, options.warn);
      const knowledge: SiteKnowledge = {
        past: past?.contents,
        index: filter && filterIndex(filter),
        keepers: log ? [log] : [],
        async close() {
          await log?.end();
          if (folder !== undefined) await trimLogs(folder, MAX_PAST_CONTENTS, MAX_PAST_LOGS);
        },
      };
      return knowledge;
    },
  };
}

/** The folder of a site's generation; those of others are removed. */
async function openGeneration({ folder, domain }: SiteMemoryOptions, { id, generation }: SiteInfo): Promise<string> {
  const ofSite = join(folder, "sites", folderName(domain), hex(id));
  const own = hex(generation);
  await mkdir(join(ofSite, own), { recursive: true, mode: 0o700 });
  for (const other of await readdir(ofSite)) {
    if (other !== own && /^[0-9a-f]{32}$/.test(other)) await rm(join(ofSite, other), { recursive: true, force: true });
  }
  return join(ofSite, own);
}

/** A log that can't be written costs bytes the next time, and never the migration. It has no more than will be used. */
async function beginLog(folder: string, session: Uint8Array, warn: (message: string) => void) {
  let broken = false;
  let left = MAX_PAST_CONTENTS;
  const attempt = async (work: () => Promise<void>) => {
    if (broken) return;
    await work().catch((error) => {
      broken = true;
      warn(`Not all of this migration is remembered: ${(error as Error).message}`);
    });
  };
  let log: LogWriter | undefined;
  await attempt(async () => {
    log = await LogWriter.create(folder, session);
  });
  return {
    put(digests: Uint8Array, pages: Uint8Array, count: number) {
      const some = Math.min(count, left);
      left -= some;
      return attempt(() => log!.put(digests, pages, some));
    },
    end: () => attempt(() => log!.end()),
  };
}

async function recall(folder: string, { logs }: SiteInfo) {
  const ours = await openLogs(folder);
  try {
    return await pastContents(logs, ours);
  } finally {
    for (const log of ours) log.close();
  }
}

/** A summary of what the site holds, where one is kept, or is worth its bytes. */
async function learn(
  folder: string | undefined,
  { contents }: SiteInfo,
  remembered: number,
  plain: number | undefined,
  summarize: (bits: 8 | 16) => Promise<Uint8Array>,
): Promise<FuseFilter | undefined> {
  const path = folder === undefined ? undefined : join(folder, "summary");
  const kept = path === undefined ? undefined : await readKept(path);
  if (kept && kept.count >= contents * FRESH) return kept;
  // What is known from logs needs no summary.
  if (contents <= remembered * 2) return kept;
  const bits = chooseBits(contents, plain);
  if (bits === undefined) return kept;
  const bytes = await summarize(bits);
  const filter = decodeFuseFilter(bytes);
  if (path) await writeWhole(path, [bytes]).catch(() => {});
  return filter;
}

/** One that is damaged or missing is pulled again. */
async function readKept(path: string): Promise<FuseFilter | undefined> {
  try {
    const bytes = await readSmall(path, MAX_SUMMARY);
    return bytes && decodeFuseFilter(bytes);
  } catch {
    return undefined;
  }
}

/** The bits for which a summary and its mistakes cost least; undefined where it is not worth it. */
export function chooseBits(contents: number, plain: number | undefined): 8 | 16 | undefined {
  const moving = plain ?? Number.POSITIVE_INFINITY;
  const size = (bits: number) => contents * bits * OVERHEAD;
  const wrong = (bits: number) => (Math.min(moving, MAX_SUMMARY * 256) / PAGE_SIZE) * 2 ** -bits * FALSE_COST;
  const bits = size(16) + wrong(16) < size(8) + wrong(8) && size(16) <= MAX_SUMMARY ? 16 : 8;
  return size(bits) <= MAX_SUMMARY && size(bits) <= moving * WORTH ? bits : undefined;
}

/** What a filter says is held. Nothing is noted: what this session sends is in its own log. */
function filterIndex(filter: FuseFilter): SiteIndex {
  return {
    async lookup(digests, count, held) {
      const words = new Int32Array(digests.buffer, digests.byteOffset, (count * DIGEST_SIZE) / 4);
      for (let i = 0; i < count; i++) held[i] = filter.has(words, i * DIGEST_WORDS) ? 1 : 0;
    },
    async insert() {},
    async close() {},
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
