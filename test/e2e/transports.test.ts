/**
 * Files and guests cross by every transport, between every two runtimes, as their users have it: with keys where a transport
 * authenticates.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { transports } from "../../transports/registry.ts";
import { noise } from "../cli/files.ts";
import { type CliOptions, type CliResult, cli, startCli } from "../support/cli.ts";
import { RUNTIMES } from "../support/runtimes.ts";

type Runtime = keyof typeof RUNTIMES;

const PAIRS: readonly (readonly [Runtime, Runtime])[] = [
  ["bun", "bun"],
  ["deno", "deno"],
  ["bun", "deno"],
  ["deno", "bun"],
];
/** Those that lie between two processes; with what they listen at. */
const LINKS = [...transports.keys()].filter((scheme) => !["memory", "file", "exec"].includes(scheme));
/** Three programs start one after the other, on a machine that may be busy. */
const MS = 30_000;
const GUEST = "fake:web?memory=16M&dirty=1M&seed=7";

let folder = "";
let keys = { source: "", destination: "" };
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "transports-"));
  writeFileSync(join(folder, "disk.raw"), noise(3_000_000, 1));
  const keyOf = async (end: string) =>
    (await cli(["identity"], as(end, "bun"))).stdout.toString().trim().split("\n")[0]!;
  keys = { source: await keyOf("source"), destination: await keyOf("destination") };
  await cli(["identity", "--authorize", keys.source, "--name", "source"], as("destination", "bun"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const as = (end: string, runtime: Runtime): CliOptions => ({
  command: RUNTIMES[runtime],
  env: { XDG_CONFIG_HOME: join(folder, end), XDG_STATE_HOME: join(folder, end), SHRINKER_INSECURE: "0" },
});
const failure = ({ code, stderr }: CliResult) => (code === 0 ? undefined : { code, stderr });

describe.each(PAIRS)("from %s to %s", (from, to) => {
  test.each(LINKS)(
    "%s: a file, and a guest that runs",
    async (scheme) => {
      const output = join(folder, `${from}-${to}-${scheme}`);
      const at = scheme === "unix" ? `unix:${output}.sock` : `${scheme}://127.0.0.1:0`;
      const receive = ["receive", "--listen", at, "--output", output, "--vm", "web=fake:", "--json"];
      await using receiver = startCli(receive, as("destination", to));
      const address = (await receiver.said(/"address":"([^"]+)"/))[1]!;
      const link = ["--to", address, "--peer", keys.destination];
      for (const machine of [join(folder, "disk.raw"), GUEST])
        expect(failure(await cli(["migrate", machine, ...link], as("source", from)))).toBeUndefined();
      expect(Buffer.compare(readFileSync(join(output, "disk.raw")), noise(3_000_000, 1))).toBe(0);
      receiver.kill("SIGTERM");
      const { events, code } = await receiver.result;
      expect(code).toBe(143);
      expect(events().filter(({ type }) => type === "session")).toMatchObject([{ ok: true }, { ok: true }]);
    },
    MS,
  );

  test(
    "exec: a file",
    async () => {
      const output = join(folder, `${from}-${to}-exec`);
      const far = [...RUNTIMES[to], "receive", "--stdio", "--output", output].map((word) => `'${word}'`).join(" ");
      const sent = await cli(["migrate", join(folder, "disk.raw"), "--to", `exec:${far}`], as("source", from));
      expect(failure(sent)).toBeUndefined();
      expect(Buffer.compare(readFileSync(join(output, "disk.raw")), noise(3_000_000, 1))).toBe(0);
    },
    MS,
  );

  test(
    "file: a file, in a bundle that is signed and of a sender who is known",
    async () => {
      const output = join(folder, `${from}-${to}-file`);
      const bundle = `file:${output}.bundle`;
      const made = await cli(["migrate", join(folder, "disk.raw"), "--to", bundle], as("source", from));
      expect(failure(made)).toBeUndefined();
      const received = await cli(["receive", bundle, "--output", output, "--json"], as("destination", to));
      expect(received.events().at(-1)).toMatchObject({ ok: true, signed: { key: keys.source, name: "source" } });
      expect(existsSync(join(output, "disk.raw"))).toBe(true);
    },
    MS,
  );
});
