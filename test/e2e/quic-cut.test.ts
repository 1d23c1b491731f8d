/** A way for datagrams that falls silent twice, under the command, with the times that its users have. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { noise } from "../cli/files.ts";
import { cli, startCli } from "../support/cli.ts";
import { startDatagramWan } from "../support/datagrams.ts";
import { until } from "../transports/helpers.ts";

const MIB = 1 << 20;
const SIZE = 12 * MIB;
/** Slower than the way: so little is on it at a time. */
const BANDWIDTH = "10MB";
/** Two outages, each of the 6 s after which a link is dead. */
const MS = 60_000;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "quic-cut-"));
  writeFileSync(join(folder, "big.raw"), noise(SIZE, 9));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test(
  "quic: a migration goes on after its way was cut twice, and hardly anything crosses twice",
  async () => {
    const env = { SHRINKER_INSECURE: "0", XDG_CONFIG_HOME: join(folder, "config") };
    const key = (await cli(["identity"], { env })).stdout.toString().trim();
    await cli(["identity", "--authorize", key, "--name", "itself"], { env });
    const receive = ["receive", "--listen", "quic://127.0.0.1:0", "--output", join(folder, "out"), "--once", "--json"];
    await using receiver = startCli(receive, { env });
    const [, port] = await receiver.said(/"address":"quic:\/\/127\.0\.0\.1:(\d+)"/);
    const local = { host: "127.0.0.1", port: 0 };
    const wan = await startDatagramWan({ listen: local, to: { ...local, port: Number(port) }, delay: 2, rate: 50e6 });
    await using stack = new AsyncDisposableStack();
    stack.defer(() => wan.close());
    const to = ["--to", `quic://127.0.0.1:${wan.port}`, "--peer", key, "--no-state", "--bandwidth", BANDWIDTH];
    await using source = startCli(["migrate", join(folder, "big.raw"), ...to, "--json"], { env });
    const lost = '"state":"reconnecting"[^]*';
    for (const [i, carried] of [3 * MIB, 8 * MIB].entries()) {
      await until(() => wan.carried > carried, 20_000);
      wan.cut();
      await source.said(new RegExp(lost.repeat(i + 1)));
      wan.mend();
    }
    const { code, stderr, events } = await source.result;
    const received = await receiver.result;
    expect([code, stderr, received.code, received.stderr]).toEqual([0, "", 0, ""]);
    expect(Buffer.compare(readFileSync(join(folder, "out", "big.raw")), noise(SIZE, 9))).toBe(0);
    const states = events().flatMap(({ type, state }) => (type === "link" ? [state] : []));
    expect(states).toEqual(["reconnecting", "connected", "reconnecting", "connected"]);
    // What was on its way when the link was cut goes again; nothing else does.
    const { wire } = events().at(-1)!.bytes as { wire: number };
    expect(wire).toBeLessThan(SIZE + 3 * MIB);
  },
  MS,
);
