import { setTimeout as sleep } from "node:timers/promises";
import { type Link, makeKeys, type Relay, startEnd, startLink, WAYS } from "./sites.ts";

export interface Case {
  readonly scheme: string;
  /** Runtimes of the source and of the destination. */
  readonly source: string;
  readonly destination: string;
  /** Undefined for the machine's own loopback. */
  readonly link: Link | undefined;
  readonly connections: number;
}

export interface Measured {
  /** Bytes a second that the destination has given out, from the first one on. */
  readonly rate: number;
  /** Of the link's rate. */
  readonly share: number | undefined;
  /** Milliseconds from a cut until the destination gives out bytes that came after it. */
  readonly resumed: number | undefined;
}

/** What comes so soon after the first byte had been on its way before: a batch comes out all at once. */
const BURST_MS = 50;
/** So much is waited for on a slow link, and so many times longer: batches of 1 MiB say nothing of less. */
const LEAST_BYTES = 4 << 20;
const LONGER = 8;
const START_MS = 30_000;
const RESUME_MS = 60_000;

/**
 * Migrates a file, and measures how fast its bytes come out at the other end, until there are none left or the time is over. Then
 * it cuts the link.
 * @param ms milliseconds from the first byte on
 */
export async function measure(file: string, folder: string, one: Case, ms: number): Promise<Measured> {
  const { scheme, link } = one;
  const env = WAYS[scheme]!.keyed ? makeKeys(folder) : { SHRINKER_INSECURE: "1" };
  const listen = ["--listen", WAYS[scheme]!.listen(folder, "socket"), "--once", "--output", "-"];
  await using destination = startEnd(one.destination, ["receive", ...listen], env);
  const [, address] = await destination.said(/listening on ([^\s,]+)/, START_MS);
  let bytes = 0;
  let first = 0;
  let begun = 0;
  let last = 0;
  destination.child.stdout!.on("data", (piece: Buffer) => {
    last = performance.now();
    first ||= last;
    if (last - first < BURST_MS) begun = last;
    else bytes += piece.length;
  });
  await using stack = new AsyncDisposableStack();
  let relay: Relay | undefined;
  if (link) {
    const started = await startLink(scheme, address!, folder, link);
    stack.defer(() => started.close());
    relay = started;
  }
  const options = ["--connections", String(one.connections), "--compress", "none", "--no-state"];
  const to = ["--to", relay?.address ?? address!, "--no-progress"];
  await using source = startEnd(one.source, ["migrate", file, "--format", "bytes", ...to, ...options], env);
  const over = Promise.race([source.ended, destination.ended]);
  await Promise.race([until(() => first > 0), over]);
  await Promise.race([sleep(ms), over]);
  if (bytes < LEAST_BYTES)
    await Promise.race([
      until(
        () => bytes >= LEAST_BYTES,
        LONGER * ms,
        () => {},
      ),
      over,
    ]);
  if (first === 0) throw new Error(`nothing came over ${scheme}: ${await source.said(/./, 1000)}`);
  const rate = (bytes * 1000) / (last - begun);
  const share = link && (rate * 8) / link.rate;
  const resumed = relay && source.child.exitCode === null ? await cut(relay) : undefined;
  return { rate, share, resumed };

  async function cut(way: Relay): Promise<number> {
    const at = performance.now();
    way.cut();
    await source.said(/connected again/, RESUME_MS);
    const then = performance.now();
    await until(() => last > then);
    return last - at;
  }
}

async function until(condition: () => boolean, ms = START_MS, late: () => void = fail): Promise<void> {
  for (const deadline = performance.now() + ms; !condition(); await sleep(2))
    if (performance.now() > deadline) return late();
}

function fail(): never {
  throw new Error("nothing came in time");
}
