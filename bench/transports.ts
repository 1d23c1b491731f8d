/**
 * How much of a link does a migration fill, and how soon does it go on after a cut? A file that can't be compressed, by `migrate
 * --compress none` to `receive`, for each transport and runtime, over loopback and over relays in this process: of TCP and unix
 * sockets they end the connections, so that delay, window and losses do what `test/support/path.ts` says; datagrams they delay and lose.
 *
 *     sh cli/bun bench/transports.ts [--quick] [--json] [--transports tcp,tls,unix,quic,webtransport,http3] [--pairs bun-bun,deno-deno,bun-deno,deno-bun]
 *         [--round-trips 1,20,100] [--losses 0,0.1,1] [--rate 100Mbit] [--window 3MiB] [--connections 1,8] [--seconds 6]
 */
import { randomFillSync } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseRate, parseSize } from "../cli/units.ts";
import { transports } from "../transports/registry.ts";
import { loadLibrary } from "../transports/webtransport/library.ts";
import { megabytes, table, withFolder } from "./support/run.ts";
import { type Case, type Measured, measure } from "./transports/measure.ts";
import { type Link, RUNTIMES, WAYS } from "./transports/sites.ts";

/** What has to be filled, and how much of it: a link that no window of one connection fills. */
const LONG = { roundTrip: 100, loss: 0, rate: 1e9 };
const LONG_CONNECTIONS = 8;
const LONG_BOUND = 0.8;
const LEAST_FILE = 512e6;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    transports: { type: "string" },
    pairs: { type: "string" },
    "round-trips": { type: "string" },
    losses: { type: "string" },
    connections: { type: "string", default: "1" },
    rate: { type: "string", default: "100Mbit" },
    window: { type: "string", default: "3MiB" },
    seconds: { type: "string" },
  },
});
const quick = (small: string, full: string) => (values.quick ? small : full);
const registered = Object.keys(WAYS).filter((way) => transports.has(WAYS[way]!.scheme));
const { http3 } = await loadLibrary("webtransport:").catch(() => ({ http3: false }));
const here = registered.filter((way) => way !== "http3" || http3);
const schemes = chosen(values.transports ?? here.join(), here);
const runtimes = Object.keys(RUNTIMES);
const pairs = chosen(
  values.pairs ?? quick("bun-bun,deno-deno", "bun-bun,deno-deno,bun-deno,deno-bun"),
  runtimes.flatMap((one) => runtimes.map((other) => `${one}-${other}`)),
).map((pair) => pair.split("-") as [string, string]);
const roundTrips = numbers(values["round-trips"] ?? quick("20", "1,20,100"));
const losses = numbers(values.losses ?? quick("0,1", "0,0.1,1"));
const connections = numbers(values.connections);
const seconds = numbers(values.seconds ?? quick("3", "6"))[0]!;
const rate = parseRate(values.rate) * 8;
const window = parseSize(values.window);

function chosen(text: string, from: readonly string[]): string[] {
  const names = text.split(",").filter((name) => name !== "");
  for (const name of names) if (!from.includes(name)) throw new Error(`"${name}" is none of ${from.join(", ")}`);
  return names;
}

function numbers(text: string): number[] {
  return text.split(",").map((word) => {
    const value = Number(word);
    if (word === "" || !(value >= 0)) throw new Error(`"${word}" is no number`);
    return value;
  });
}

function* cases(): Generator<Case> {
  for (const scheme of schemes) {
    for (const [source, destination] of pairs) {
      const ends = { scheme, source, destination };
      for (const count of connections) yield { ...ends, link: undefined, connections: count };
      for (const roundTrip of roundTrips)
        for (const percent of losses)
          for (const count of connections)
            yield { ...ends, link: { roundTrip, loss: percent / 100, rate, window }, connections: count };
    }
  }
}

/** The check of streams: over TCP, where a relay in user space can carry so much. */
function* longCases(): Generator<Case> {
  const link: Link = { ...LONG, window };
  for (const connections of [1, LONG_CONNECTIONS])
    yield { scheme: "tcp", source: "bun", destination: "bun", link, connections };
}

const say = (line: string) => process.stderr.write(`${line}\n`);

await withFolder(async (folder) => {
  const files = new Map<number, string>();
  const fileFor = (bits: number) => {
    // More than crosses in the time, and after the cut.
    const size = Math.max(LEAST_FILE, (bits / 8) * (seconds + 4));
    const path = files.get(size) ?? writeNoise(join(folder, `noise-${size}`), size);
    files.set(size, path);
    return path;
  };
  async function run(one: Case): Promise<Measured | undefined> {
    say(`${describe(one).join(", ")}...`);
    try {
      const measured = await measure(fileFor(one.link?.rate ?? 0), folder, one, seconds * 1000);
      if (values.json) console.log(JSON.stringify({ ...one, ...measured }));
      return measured;
    } catch (error) {
      say(`failed: ${(error as Error).message}`);
      if (values.json) console.log(JSON.stringify({ ...one, error: (error as Error).message }));
      return undefined;
    }
  }
  const done: Done[] = [];
  for (const one of cases()) done.push({ one, measured: await run(one) });
  const long: Done[] = [];
  if (schemes.includes("tcp")) for (const one of longCases()) long.push({ one, measured: await run(one) });
  if (!values.json) {
    console.log(
      `${rate / 1e6} Mbit/s, windows of ${window / 2 ** 20} MiB, ${seconds} s each, losses of ${losses.join(" / ")} %\n`,
    );
    report(done);
    if (long.length > 0) reportLong(long);
  }
  const filled = long.at(-1)?.measured?.share;
  if (long.length > 0 && !(filled !== undefined && filled >= LONG_BOUND)) {
    say(`the last fills ${filled?.toFixed(2)} of it, where ${LONG_BOUND} is the bound`);
    process.exitCode = 1;
  }
});

interface Done {
  readonly one: Case;
  /** Undefined where it failed. */
  readonly measured: Measured | undefined;
}

function describe({ scheme, source, destination, link, connections: count }: Case): string[] {
  const where = link
    ? `${link.rate / 1e6} Mbit/s, ${link.roundTrip} ms, ${+(link.loss * 100).toFixed(3)} %`
    : "loopback";
  return [scheme, source, destination, String(count), where];
}

/** A row for each transport, pair and number of connections; of each link the shares, or times, by losses. */
function report(done: readonly Done[]): void {
  const local = done.find(({ one }) => !one.link)?.measured?.rate;
  const rows = new Map<string, Done[]>();
  for (const entry of done) {
    const key = describe(entry.one).slice(0, 4).join("\0");
    rows.set(key, [...(rows.get(key) ?? []), entry]);
  }
  const at = (entries: readonly Done[], roundTrip: number, show: (measured: Measured) => string | undefined) =>
    entries
      .filter(({ one }) => one.link?.roundTrip === roundTrip)
      .map(({ measured }) => (measured ? (show(measured) ?? "") : "failed"))
      .join(" / ");
  table(
    [
      ...["transport", "source", "destination", "connections", "loopback (MB/s)", "of the first"],
      ...roundTrips.map((roundTrip) => `share at ${roundTrip} ms`),
      ...roundTrips.map((roundTrip) => `resumed (s) at ${roundTrip} ms`),
    ],
    [...rows].map(([key, entries]) => {
      const loopback = entries.find(({ one }) => !one.link)?.measured?.rate;
      return [
        ...key.split("\0"),
        loopback === undefined ? "failed" : megabytes(loopback),
        loopback === undefined || local === undefined ? "" : (loopback / local).toFixed(2),
        ...roundTrips.map((roundTrip) => at(entries, roundTrip, ({ share }) => share?.toFixed(2))),
        ...roundTrips.map((roundTrip) => at(entries, roundTrip, ({ resumed }) => seconded(resumed))),
      ];
    }),
  );
}

function seconded(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : (ms / 1000).toFixed(1);
}

function reportLong(long: readonly Done[]): void {
  console.log(`\n${LONG.rate / 1e6} Mbit/s, ${LONG.roundTrip} ms:\n`);
  table(
    ["transport", "connections", "MB/s", "share", "bound"],
    long.map(({ one, measured }) => [
      ...[one.scheme, one.connections, measured ? megabytes(measured.rate) : "failed"],
      ...[measured?.share?.toFixed(2) ?? "", one.connections === LONG_CONNECTIONS ? `>= ${LONG_BOUND}` : ""],
    ]),
  );
}

/** A file that nothing makes smaller. */
function writeNoise(path: string, size: number): string {
  const buffer = Buffer.alloc(16 << 20);
  const fd = openSync(path, "w", 0o600);
  for (let left = size; left > 0; left -= buffer.length)
    writeSync(fd, randomFillSync(buffer), 0, Math.min(left, buffer.length));
  closeSync(fd);
  return path;
}
