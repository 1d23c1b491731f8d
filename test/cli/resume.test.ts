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

async function migrate(to: string, options: readonly string[]) {
  const { code, stderr, events } = await cli([
    "migrate",
    here.path("big.raw"),
    "--to",
    to,
    "--no-state",
    ...SLOWLY,
    ...options,
    "--json",
  ]);
  const all = events() as { type: string; state?: string }[];
  const { wire } = (all.at(-1) as unknown as Summary).bytes;
  return { code, stderr, wire, lost: all.filter(({ type, state }) => type === "link" && state === "reconnecting") };
}

test.each([
  ["a receiver of one session", ["--once"], 1],
  ["a daemon", [], 1],
  ["a receiver of one session, over several connections", ["--once"], 3],
])(
  "through a link that is cut twice, to %s",
  async (_, once, connections) => {
    const output = here.path(`resumed${once.length}${connections}`);
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--output", output, "--json", ...once];
    await using receiver = startCli(listen);
    const [, address] = await receiver.said(/"listening","address":"([^"]+)"/);
    // One of a group is enough.
    const share = MIB / connections;
    const cuts = new Map([3, 5].map((size, i) => [i * connections, { up: [cutAfter(size * share)] }]));
    const relay = await startRelay({ to: address!, faults: (link) => cuts.get(link) ?? {} });
    const { code, stderr, wire, lost } = await migrate(relay.address, ["--connections", String(connections)]);
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
