/** The ways to migrate a cluster that are compared. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { begin, configure } from "../../test/support/qemu/migrate.ts";
import type { CableOrder } from "./cable.ts";
import { type Cluster, type Member, RAM } from "./cluster.ts";
import { type Span, timed } from "./measure.ts";
import { start } from "./process.ts";
import type { Sites } from "./sites.ts";

/** For one migration of the whole cluster; the slowest seen took a minute. */
const LIMIT_SECONDS = 300;
const READY_SECONDS = 20;
const FIRST_PORT = 4747;
const RUNTIME = fileURLToPath(new URL("../../cli/bun", import.meta.url));
const CABLE = fileURLToPath(new URL("cable.ts", import.meta.url));
const SHRINKER = fileURLToPath(new URL("../../cli/shrinker", import.meta.url));

/** All the ports of the far site that a way may use: one for each guest, the first of them also for a tool. */
export const ports = (guests: number) => Array.from({ length: guests }, (_, i) => FIRST_PORT + i);

export interface Moved {
  readonly span: Span;
  /** Peaks of resident memory in bytes, where a process of ours has a part. */
  readonly peaks?: { readonly source: number; readonly destination: number };
}

export type Way = (cluster: Cluster, sites: Sites) => Promise<Moved>;

interface Settings {
  readonly capabilities?: readonly string[];
  readonly both?: Readonly<Record<string, unknown>>;
  readonly source?: Readonly<Record<string, unknown>>;
}

/** Lets QEMU itself send each guest from `from` to `to`. `settings` are those in which the ways differ. */
async function byQemu(
  { members }: Cluster,
  settings: Settings,
  from: (member: Member, i: number) => string,
  to: (member: Member, i: number) => string,
): Promise<() => Promise<void>> {
  const capabilities = Object.fromEntries(
    ["events", "return-path", ...(settings.capabilities ?? [])].map((c) => [c, true]),
  );
  await Promise.all(
    members.map(async ({ source, destination }) => {
      await configure(destination, capabilities, settings.both);
      // The link is to decide: QEMU's own limit is about 1 Gbit/s.
      const parameters = { "max-bandwidth": 2 ** 33, "downtime-limit": 300, ...settings.both, ...settings.source };
      await configure(source, capabilities, parameters);
    }),
  );
  const receiving = await Promise.all(
    members.map((member, i) => begin(member.destination, "migrate-incoming", from(member, i))),
  );
  return async () => {
    const sending = await Promise.all(members.map((member, i) => begin(member.source, "migrate", to(member, i))));
    await Promise.all([...receiving, ...sending].map((ended) => ended()));
  };
}

/** QEMU's own migration over TCP, a connection for each guest. */
function qemu(settings: Settings): Way {
  return async (cluster, sites) => {
    const at = (address: (port: number) => string) => (_: Member, i: number) => `tcp:${address(FIRST_PORT + i)}`;
    const move = await byQemu(cluster, settings, at(sites.listen), at(sites.dial));
    return { span: await timed(cluster, LIMIT_SECONDS, move) };
  };
}

const tool = (cluster: Cluster, netns: string, ...args: string[]) =>
  start(netns, [SHRINKER, ...args, "--insecure"], { XDG_STATE_HOME: join(cluster.folder, netns) });

/** QEMU's own migration through unix sockets that a tunnel joins. */
const tunnel: Way = async (cluster, sites) => {
  const services = (end: string) =>
    cluster.members.flatMap(({ name }) => ["--service", `${name}=unix:${join(cluster.folder, `${name}-${end}.mig`)}`]);
  const socket = (end: string) => (member: Member) => `unix:${join(cluster.folder, `${member.name}-${end}.mig`)}`;
  const move = await byQemu(cluster, {}, socket("b"), socket("a"));
  const listen = `tcp://${sites.listen(FIRST_PORT)}`;
  await using destination = tool(cluster, sites.far, "receive", "--listen", listen, ...services("b"));
  await destination.said(/listening/, READY_SECONDS);
  await using source = tool(cluster, sites.near, "tunnel", "--to", `tcp://${sites.dial(FIRST_PORT)}`, ...services("a"));
  await source.said(/listening/, READY_SECONDS);
  const span = await timed(cluster, LIMIT_SECONDS, move);
  return { span, peaks: { source: source.peak, destination: destination.peak } };
};

/** The same through unix sockets that two processes of this runtime join, which pass bytes on and do nothing else but digest them. */
function cable(digests: boolean): Way {
  return async (cluster, sites) => {
    const path = (end: string) => (member: Member) => join(cluster.folder, `${member.name}-${end}.mig`);
    const unix = (end: string) => (member: Member) => `unix:${path(end)(member)}`;
    const move = await byQemu(cluster, {}, unix("b"), unix("a"));
    const tcp = (address: string) => {
      const [host, port] = address.split(":");
      return { host: host!, port: Number(port) };
    };
    const end = (netns: string, wires: CableOrder["wires"]) =>
      start(netns, ["sh", RUNTIME, CABLE, JSON.stringify({ wires, digests } satisfies CableOrder)]);
    const far = cluster.members.map((member, i) => ({
      listen: tcp(sites.listen(FIRST_PORT + i)),
      to: { path: path("b")(member) },
    }));
    const near = cluster.members.map((member, i) => ({
      listen: { path: path("a")(member) },
      to: tcp(sites.dial(FIRST_PORT + i)),
    }));
    await using destination = end(sites.far, far);
    await destination.said(/listening/, READY_SECONDS);
    await using source = end(sites.near, near);
    await source.said(/listening/, READY_SECONDS);
    const span = await timed(cluster, LIMIT_SECONDS, move);
    return { span, peaks: { source: source.peak, destination: destination.peak } };
  };
}

/** The command that drives both QEMUs. Its start counts. */
const shrinker: Way = async (cluster, sites) => {
  const { members } = cluster;
  const listen = `tcp://${sites.listen(FIRST_PORT)}`;
  const vms = members.flatMap(({ name, destinationQmp }) => ["--vm", `${name}=qmp:${destinationQmp}`]);
  await using destination = tool(cluster, sites.far, "receive", "--listen", listen, ...vms);
  await destination.said(/listening/, READY_SECONDS);
  const sources = members.map(({ name, sourceQmp }) => `${name}=qmp:${sourceQmp}`);
  const to = ["--to", `tcp://${sites.dial(FIRST_PORT)}`, "--json"];
  await using stack = new AsyncDisposableStack();
  let peak = () => 0;
  const span = await timed(cluster, LIMIT_SECONDS, async () => {
    const source = stack.use(tool(cluster, sites.near, "migrate", ...sources, ...to));
    peak = () => source.peak;
    await source.succeeded(LIMIT_SECONDS);
  });
  return { span, peaks: { source: peak(), destination: destination.peak } };
};

const multifd = { "multifd-channels": 2, "multifd-compression": "zstd" };

export const WAYS: Readonly<Record<string, Way>> = {
  plain: qemu({}),
  // A cache as large as the guest: every page that is sent again can be a difference.
  xbzrle: qemu({ capabilities: ["xbzrle"], source: { "xbzrle-cache-size": RAM << 20 } }),
  multifd: qemu({ capabilities: ["multifd"], both: multifd }),
  cable: cable(false),
  digests: cable(true),
  tunnel,
  shrinker,
};
