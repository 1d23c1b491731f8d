// A link that is cut, under the command: what is moved arrives, and hardly anything crosses twice.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { cli, startCli } from "../support/cli.ts";
import { cutAfter } from "../support/faults.ts";
import { startRelay } from "../support/relay.ts";
import { noise, type Workspace, workspace } from "./files.ts";

const MIB = 1 << 20;
/** So little is on the way at a time. */
const SLOWLY = ["--bandwidth", "20MB"];
let here: Workspace;
beforeAll(() => {
  here = workspace();
  writeFileSync(here.path("big.raw"), noise(12 * MIB, 9));
});
afterAll(() => here[Symbol.dispose]());

interface Summary {
  readonly bytes: { readonly wire: number };
}

type Env = Readonly<Record<string, string>>;

/** Both ends have one key, and know it. */
async function keyed(): Promise<Env> {
  const env = { SHRINKER_INSECURE: "0", XDG_CONFIG_HOME: here.path("config") };
  const key = (await cli(["identity"], { env })).stdout.toString().trim();
  await cli(["identity", "--authorize", key, "--name", "itself"], { env });
  return { ...env, SHRINKER_PEER: key };
}

async function migrate(to: string, env: Env, connections: number) {
  const args = [
    "migrate",
    here.path("big.raw"),
    "--to",
    to,
    "--no-state",
    ...SLOWLY,
    "--connections",
    String(connections),
    "--json",
  ];
  const { code, stderr, events } = await cli(args, { env });
  const all = events() as { type: string; state?: string }[];
  const { wire } = (all.at(-1) as unknown as Summary).bytes;
  return { code, stderr, wire, lost: all.filter(({ type, state }) => type === "link" && state === "reconnecting") };
}

test.each([
  ["a receiver of one session", ["--once"], 1, async () => ({})],
  ["a daemon", [], 1, async () => ({})],
  ["a receiver of one session, over several connections", ["--once"], 3, async () => ({})],
  ["a receiver of one session, by keys", ["--once"], 1, keyed],
  ["a daemon, by keys and over several connections", [], 3, keyed],
] as const)(
  "through a link that is cut twice, to %s",
  async (name, once, connections, prepare) => {
    const env = await prepare();
    const output = here.path(name.replace(/\W/g, "-"));
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--output", output, "--json", ...once];
    await using receiver = startCli(listen, { env });
    const [, address] = await receiver.said(/"listening","address":"([^"]+)"/);
    // One of a group is enough.
    const share = MIB / connections;
    const cuts = new Map([3, 5].map((size, i) => [i * connections, { up: [cutAfter(size * share)] }]));
    const relay = await startRelay({ to: address!, faults: (link) => cuts.get(link) ?? {} });
    const { code, stderr, wire, lost } = await migrate(relay.address, env, connections);
    await receiver.said(/"type":"landed"/);
    await relay.close();
    if (once.length === 0) receiver.kill("SIGTERM");
    const received = await receiver.result;
    expect([code, stderr, received.stderr]).toEqual([0, "", ""]);
    expect(relay.links).toBe(3 * connections);
    expect(lost).toHaveLength(2);
    expect(here.arrived(output, ["big.raw"])).toBe(true);
    // What was on its way when the link was cut goes again; nothing else does.
    expect(wire).toBeLessThan(12 * MIB + 2 * MIB + MIB / 2);
    const sessions = received.events().filter(({ type }) => type === "session");
    expect(sessions).toHaveLength(once.length === 0 ? 1 : 0);
  },
  30_000,
);
