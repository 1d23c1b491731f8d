import { readdir, rename, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { DIGEST_SIZE } from "../content/page.ts";
import { fileError } from "../errors.ts";
import { syncFolder } from "../files/whole.ts";
import { LogReader } from "./content-log.ts";
import type { Layout } from "./layout.ts";

/** What a log is called once sources must not refer to it any more: it only says then what was received, and when. */
const RETIRED = ".received";
const READ = 256;

/** A session's log, also one that is retired. */
interface Received {
  readonly path: string;
  readonly session: string;
  readonly retired: boolean;
  /** When its session ended, in milliseconds since 1970. */
  readonly time: number;
}

async function listReceived(layout: Layout): Promise<Received[]> {
  const names = await readdir(layout.logs).catch((error) => {
    throw fileError("Cannot read", layout.logs, error);
  });
  const found: Received[] = [];
  for (const name of names.sort()) {
    const match = /^([0-9a-f]{32})(\.log|\.received)$/.exec(name);
    if (!match) continue;
    const path = join(layout.logs, name);
    const { mtimeMs: time } = await stat(path).catch((error) => {
      throw fileError("Cannot read", path, error);
    });
    found.push({ path, session: match[1]!, retired: match[2] === RETIRED, time });
  }
  return found;
}

/**
 * The digests of the contents of sessions that ended after `since`, 32 bytes each, by hundreds. Passes over logs that are damaged,
 * as far as they are. Throws `input` for one that can't be read.
 */
export async function visitReceived(
  layout: Layout,
  since: number,
  visit: (digests: Uint8Array) => void,
): Promise<void> {
  const digests = new Uint8Array(READ * DIGEST_SIZE);
  for (const { path, time } of await listReceived(layout)) {
    if (time <= since) continue;
    let log: LogReader | undefined;
    try {
      log = LogReader.open(path);
      if (!log) continue;
      for (let first = 0; first < log.length; first += READ) {
        const count = Math.min(READ, log.length - first);
        log.read(first, count, digests, 0);
        visit(digests.subarray(0, count * DIGEST_SIZE));
      }
    } catch (error) {
      throw fileError("Cannot read", path, error);
    } finally {
      log?.close();
    }
  }
}

/**
 * Takes the logs away from sources, who must not refer to what may be gone; those of sessions that ended after `since` go on to say
 * what was received.
 */
export async function retireLogs(layout: Layout, since: number): Promise<void> {
  for (const { path, session, retired, time } of await listReceived(layout)) {
    try {
      if (time <= since) await unlink(path);
      else if (!retired) await rename(path, join(layout.logs, session + RETIRED));
    } catch (error) {
      throw fileError("Cannot remove", path, error);
    }
  }
  await syncFolder(layout.logs);
}
