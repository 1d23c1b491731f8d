/**
 * How fast is Bun's QUIC by itself? One process sends a stream to another over loopback, and neither does anything else: what that
 * takes of a processor is not there for the engine. Medians.
 *
 *     sh cli/bun bench/quic.ts [--megabytes 512] [--runs 3]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import quic from "node:quic";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { issueLeaf, synthesizeAnchor } from "../core/identity/certificates.ts";
import { generateKey } from "../core/identity/key.ts";
import { SERVER_NAME } from "../core/transport/security.ts";
import type { StreamLink } from "../transports/framed/link.ts";
import { nodeQuic } from "../transports/quic/node.ts";
import { median, table } from "./support/run.ts";

const SECONDS = 60;
const OPTIONS = { idleMs: 15_000 };
const PIECE = Buffer.alloc(256 << 10, 7);

/** What an end has taken, in seconds: of the time since the first bytes, of a processor, and of that in the system. */
interface Taken {
  readonly elapsed: number;
  readonly processor: number;
  readonly system: number;
}

const tell = (word: object) => console.log(JSON.stringify(word));

function tellTaken(since: number): void {
  const { user, system } = process.cpuUsage();
  tell({ elapsed: (performance.now() - since) / 1000, processor: (user + system) / 1e6, system: system / 1e6 });
}

async function receive(bytes: number): Promise<void> {
  const key = generateKey();
  const come = Promise.withResolvers<StreamLink>();
  const onPeer = ({ link }: { link: Promise<StreamLink> }) => come.resolve(link);
  const { port } = await nodeQuic(quic).listen("127.0.0.1", 0, { ...OPTIONS, credentials: issueLeaf(key), onPeer });
  tell({ port, anchor: synthesizeAnchor(key.word) });
  const link = await come.promise;
  let since = 0;
  for (let got = 0; got < bytes; ) {
    const parts = await link.read();
    since ||= performance.now();
    for (const part of parts) got += part.length;
  }
  tellTaken(since);
  await link.write([Buffer.from("all")]);
}

async function send(bytes: number, port: number, anchor: string): Promise<void> {
  const security = { anchor, serverName: SERVER_NAME };
  const link = await nodeQuic(quic).dial("127.0.0.1", port, {
    ...OPTIONS,
    security,
    signal: AbortSignal.timeout(5000),
  });
  const since = performance.now();
  for (let sent = 0; sent < bytes; sent += PIECE.length) await link.write([PIECE.subarray(0, bytes - sent)]);
  await link.read();
  tellTaken(since);
}

/** Runs this script as one of the ends. What it tells comes line by line. */
function end(...args: readonly string[]) {
  const program = fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: SECONDS * 1000,
    env: { ...process.env, NODE_NO_WARNINGS: "1" },
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async () => {
    const { value } = await lines.next();
    if (value === undefined) throw new Error(`the end that is to ${args[0]} has ended without a word`);
    return JSON.parse(value);
  };
  return { next, ended: once(child, "close"), stop: () => child.kill() };
}

async function measure(bytes: number): Promise<{ sender: Taken; receiver: Taken }> {
  const receiving = end("receive", `${bytes}`);
  const { port, anchor } = await receiving.next();
  const sending = end("send", `${bytes}`, `${port}`, anchor);
  const taken = { sender: await sending.next(), receiver: await receiving.next() };
  for (const one of [sending, receiving]) one.stop();
  await Promise.all([sending.ended, receiving.ended]);
  return taken;
}

const [role, bytes, port, anchor] = process.argv.slice(2);
if (role === "receive") await receive(Number(bytes));
else if (role === "send") await send(Number(bytes), Number(port), anchor!);
else {
  const { values } = parseArgs({
    options: { megabytes: { type: "string", default: "512" }, runs: { type: "string", default: "3" } },
  });
  const megabytes = Number(values.megabytes);
  const runs: { sender: Taken; receiver: Taken }[] = [];
  for (let run = 0; run < Number(values.runs); run++) runs.push(await measure(megabytes * 1e6));
  const of = (pick: (run: (typeof runs)[number]) => number) => median(runs.map(pick));
  const seconds = of(({ receiver }) => receiver.elapsed);
  table(
    [
      "MB",
      "s",
      "MB/s",
      "processor, sender (s)",
      "of it in the system",
      "processor, receiver (s)",
      "of it in the system",
    ],
    [
      [
        `${megabytes}`,
        seconds.toFixed(2),
        (megabytes / seconds).toFixed(0),
        ...[of(({ sender }) => sender.processor), of(({ sender }) => sender.system)].map((value) => value.toFixed(1)),
        ...[of(({ receiver }) => receiver.processor), of(({ receiver }) => receiver.system)].map((value) =>
          value.toFixed(1),
        ),
      ],
    ],
  );
}
