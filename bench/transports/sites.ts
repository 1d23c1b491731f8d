/** Both ends of a migration, as processes of either runtime, and the way between them. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startDatagramWan } from "../../test/support/datagrams.ts";
import { startWan } from "../../test/support/wan.ts";

const here = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const MAIN = here("cli/main.ts");

export const RUNTIMES: Readonly<Record<string, readonly string[]>> = {
  bun: ["sh", here("cli/bun"), MAIN],
  deno: [here("node_modules/.bin/deno"), "run", "-A", "--no-check", "--quiet", MAIN],
};

/** Of a transport: where it listens, and what carries it. */
interface Way {
  readonly scheme: string;
  listen(folder: string, name: string): string;
  readonly carrier: "stream" | "datagrams" | "both";
  /** Whether the ends prove to each other who they are. */
  readonly keyed?: boolean;
}

const network = (scheme: string, carrier: Way["carrier"]): Way => ({
  scheme,
  listen: () => `${scheme}://127.0.0.1:0`,
  carrier,
});
export const WAYS: Readonly<Record<string, Way>> = {
  tcp: network("tcp", "stream"),
  tls: { ...network("tcp", "stream"), keyed: true },
  unix: { scheme: "unix", listen: (folder, name) => `unix:${join(folder, name)}`, carrier: "stream" },
  quic: network("quic", "datagrams"),
  webtransport: network("webtransport", "stream"),
  /** The same with its datagrams: over HTTP/3, where the native part of that is installed. */
  http3: network("webtransport", "both"),
};

export interface Link {
  /** Milliseconds of a round trip. */
  readonly roundTrip: number;
  /** The part of the packets that is lost. */
  readonly loss: number;
  /** Bits a second each way. */
  readonly rate: number;
  /** Bytes that one connection of TCP may have on its way. */
  readonly window: number;
}

export interface Relay {
  readonly address: string;
  cut(): void;
  close(): Promise<void>;
}

/** Puts a link before an address. */
export async function startLink(way: string, address: string, folder: string, link: Link): Promise<Relay> {
  const { roundTrip, loss, rate, window } = link;
  const { scheme, carrier } = WAYS[way]!;
  const shape = { delay: roundTrip / 2, rate: rate / 8, loss };
  if (scheme === "unix") {
    const path = join(folder, "relay");
    const wan = await startWan({ listen: { path }, to: { path: address.slice("unix:".length) }, ...shape, window });
    return { ...wan, address: `unix:${path}` };
  }
  const local = { host: "127.0.0.1", port: 0 };
  const to = { ...local, port: Number(/:(\d+)$/.exec(address)?.[1]) };
  const streams = carrier === "datagrams" ? undefined : await startWan({ listen: local, to, ...shape, window });
  const port = streams?.port ?? 0;
  const datagrams =
    carrier === "stream" ? undefined : await startDatagramWan({ listen: { ...local, port }, to, ...shape });
  return {
    address: `${scheme}://127.0.0.1:${datagrams?.port ?? port}`,
    cut() {
      streams?.cut();
      datagrams?.cut();
    },
    async close() {
      await Promise.all([streams?.close(), datagrams?.close()]);
    },
  };
}

export interface End extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Resolves with the first match in what it has said on stderr; rejects where it ends without. */
  said(pattern: RegExp, ms: number): Promise<RegExpExecArray>;
  /** Resolves with its exit code. */
  readonly ended: Promise<number | null>;
}

/** Makes one key for both ends, which let it in. Returns the environment in which they have it. */
export function makeKeys(folder: string): Readonly<Record<string, string>> {
  const env = { XDG_CONFIG_HOME: join(folder, "keys"), SHRINKER_INSECURE: "0" };
  const [program, ...first] = RUNTIMES.bun as [string, ...string[]];
  const shrinker = (...args: string[]) =>
    execFileSync(program, [...first, ...args], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "ignore"],
    });
  const key = shrinker("identity").toString().trim();
  shrinker("identity", "--authorize", key, "--name", "both");
  return { ...env, SHRINKER_PEER: key };
}

/** Starts an end of the command. It is killed when it is disposed of. */
export function startEnd(runtime: string, args: readonly string[], env: Readonly<Record<string, string>>): End {
  const [program, ...first] = RUNTIMES[runtime] as [string, ...string[]];
  const child = spawn(program, [...first, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let words = "";
  let wake = () => {};
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-10_000);
    wake();
  });
  let over = false;
  const ended = once(child, "close").then(([code]) => {
    over = true;
    wake();
    return code as number | null;
  });
  return {
    child,
    ended,
    async said(pattern, ms) {
      for (const deadline = performance.now() + ms; ; ) {
        const match = pattern.exec(words);
        if (match) return match;
        const left = deadline - performance.now();
        if (over || left <= 0) throw new Error(`${args.join(" ")} does not say ${pattern}, but: ${words}`);
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, left);
        wake = resolve;
        await promise;
        clearTimeout(timer);
      }
    },
    async [Symbol.asyncDispose]() {
      if (!over) child.kill("SIGKILL");
      await ended;
    },
  };
}
