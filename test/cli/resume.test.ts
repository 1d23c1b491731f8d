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

async function migrate(to: string) {
  const { code, stderr, events } = await cli([
    "migrate",
    here.path("big.raw"),
    "--to",
    to,
    "--no-state",
    ...SLOWLY,
    "--json",
  ]);
  const all = events() as { type: string; state?: string }[];
  const { wire } = (all.at(-1) as unknown as Summary).bytes;
  return { code, stderr, wire, lost: all.filter(({ type, state }) => type === "link" && state === "reconnecting") };
}

test.each([
  ["a receiver of one session", ["--once"]],
  ["a daemon", []],
])(
  "through a link that is cut twice, to %s",
  async (_, once) => {
    const output = here.path(`resumed${once.length}`);
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--output", output, "--json", ...once];
    await using receiver = startCli(listen);
    const [, address] = await receiver.said(/"listening","address":"([^"]+)"/);
    const cuts = [{ up: [cutAfter(3 * MIB)] }, { up: [cutAfter(5 * MIB)] }];
    const relay = await startRelay({ to: address!, faults: (link) => cuts[link] ?? {} });
    const { code, stderr, wire, lost } = await migrate(relay.address);
    await receiver.said(/"type":"landed"/);
    await relay.close();
    if (once.length === 0) receiver.kill("SIGTERM");
    const received = await receiver.result;
    expect([code, stderr, received.stderr]).toEqual([0, "", ""]);
    expect(relay.links).toBe(3);
    expect(lost).toHaveLength(2);
    expect(here.arrived(output, ["big.raw"])).toBe(true);
    // What was on its way when the link was cut goes again; nothing else does.
    expect(wire).toBeLessThan(12 * MIB + 2 * MIB + MIB / 2);
    const sessions = received.events().filter(({ type }) => type === "session");
    expect(sessions).toHaveLength(once.length === 0 ? 1 : 0);
  },
  30_000,
);
