/** Two sites on this machine: network namespaces with one shaped link between them. Needs root. */
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { must, run } from "../../test/support/run.ts";
import { type Running, start } from "./process.ts";

/** Of this process: others may measure at the same time. */
const NEAR = `shrinker-${process.pid}-near`;
const FAR = `shrinker-${process.pid}-far`;
const NEAR_ADDRESS = "10.77.0.1";
const FAR_ADDRESS = "10.77.0.2";
const DEVICE = "wan0";
const RUNTIME = fileURLToPath(new URL("../../cli/bun", import.meta.url));
const RELAY = fileURLToPath(new URL("relay.ts", import.meta.url));

export interface Shape {
  /** Bits a second each way; no limit where it is left out. */
  readonly rate?: number;
  /** Milliseconds each way. */
  readonly delay: number;
}

export interface Sites extends AsyncDisposable {
  /** The namespace that guests leave, and the one they go to. */
  readonly near: string;
  readonly far: string;
  /** What the near site dials, and where the far site listens: not the same where a relay stands before it. */
  dial(port: number): string;
  listen(port: number): string;
  /** Bytes that the link has carried so far, both ways, headers included. */
  carried(): Promise<number>;
}

/** What the delay's relay, a process in the far site, is told. */
export interface RelayOrder {
  readonly listen: string;
  readonly to: string;
  readonly ports: readonly number[];
  readonly delay: number;
  /** Bytes a second. */
  readonly rate: number;
}

const ip = (...args: string[]) => must("ip", args);

/** Makes both sites and the link; a delay serves `ports` only. Removes all of it, and ends what runs there, with its disposal. */
export async function makeSites({ rate, delay }: Shape, ports: readonly number[]): Promise<Sites> {
  let relay: Running | undefined;
  try {
    for (const netns of [NEAR, FAR]) {
      await ip("netns", "add", netns);
      await ip("-n", netns, "link", "set", "lo", "up");
    }
    await ip("link", "add", DEVICE, "netns", NEAR, "type", "veth", "peer", "name", DEVICE, "netns", FAR);
    for (const [netns, address] of [
      [NEAR, NEAR_ADDRESS],
      [FAR, FAR_ADDRESS],
    ] as const) {
      await must("ip", ["netns", "exec", netns, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]);
      await ip("-n", netns, "addr", "add", `${address}/30`, "dev", DEVICE);
      // One packet is one frame where the rate is that of a link: each carries its headers, and they count.
      await ip("-n", netns, "link", "set", DEVICE, "up", ...(rate === undefined ? [] : ["gso_max_segs", "1"]));
      if (rate === undefined) continue;
      const shape = ["tbf", "rate", `${rate}bit`, "burst", "32kb", "latency", "50ms"];
      await must("tc", ["-n", netns, "qdisc", "add", "dev", DEVICE, "root", ...shape]);
    }
    if (delay > 0) {
      const bytes = (rate ?? 10e9) / 8;
      const order: RelayOrder = { listen: FAR_ADDRESS, to: "127.0.0.1", ports, delay, rate: bytes };
      relay = start(FAR, ["sh", RUNTIME, RELAY, JSON.stringify(order)]);
      await relay.said(/listening/, 20);
    }
  } catch (error) {
    await removeSites();
    throw error;
  }
  return {
    near: NEAR,
    far: FAR,
    dial: (port) => `${FAR_ADDRESS}:${port}`,
    listen: (port) => `${delay > 0 ? "127.0.0.1" : FAR_ADDRESS}:${port}`,
    async carried() {
      const text = await ip("-n", NEAR, "-j", "-s", "link", "show", "dev", DEVICE);
      const [{ stats64 }] = JSON.parse(text) as [{ stats64: Record<"rx" | "tx", { bytes: number }> }];
      return stats64.rx.bytes + stats64.tx.bytes;
    },
    [Symbol.asyncDispose]: removeSites,
  };
}

/** Removes both sites, as far as they are there, and ends what runs in them: all of that was started by this program. */
export async function removeSites(): Promise<void> {
  await Promise.all([NEAR, FAR].map(removeSite));
}

async function removeSite(netns: string): Promise<void> {
  for (let i = 0; i < 20; i++) {
    const { code, stdout } = await run("ip", ["netns", "pids", netns]);
    const pids = stdout.split("\n").filter(Boolean).map(Number);
    if (code !== 0 || pids.length === 0) break;
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {} // It has just ended.
    }
    await sleep(50);
  }
  await run("ip", ["netns", "del", netns]);
}
