// webtransport: under the command: between runtimes, between sites that know each other, and over links that are cut.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { loadLibrary } from "../../transports/webtransport/library.ts";
import { cli, startCli } from "../support/cli.ts";
import { cutAfter } from "../support/faults.ts";
import { startRelay } from "../support/relay.ts";
import { noise, type Workspace, workspace } from "./files.ts";

const MIB = 1 << 20;
const ANY = "webtransport://127.0.0.1:0";
/** What carries a session here: HTTP/3 as well where its native part is installed. */
const { http3 } = await loadLibrary(ANY);
const CARRIER = http3 ? "HTTP/3" : "HTTP/2";
const LISTENS = http3 ? "HTTP/3 and HTTP/2" : "HTTP/2";
const LISTENING = new RegExp(`"listening","address":"([^"]+)","carrier":"${LISTENS}"`);
const root = resolve(import.meta.dirname, "../..");
let here: Workspace;
beforeAll(() => {
  here = workspace();
  writeFileSync(here.path("big.raw"), noise(12 * MIB, 9));
});
afterAll(() => here[Symbol.dispose]());

const last = (events: object[]) => events.at(-1) as Record<string, unknown>;

/** The command on the runtime that doesn't run the tests, if it is there: sends to an address. */
const deno = resolve(root, "node_modules/.bin/deno");
const other: readonly string[] =
  "Deno" in globalThis ? ["sh", resolve(root, "cli/bun")] : [deno, "run", "-A", "--no-check"];

describe("webtransport", () => {
  test.skipIf(!existsSync(other.at(-1) === "--no-check" ? deno : other[1]!))(
    "the two runtimes understand each other, and say over what",
    async () => {
      const output = here.path("across");
      await using receiver = startCli(["receive", "--listen", ANY, "--once", "--output", output, "--json"]);
      const [, address] = await receiver.said(LISTENING);
      const [program, ...first] = other as [string, ...string[]];
      const args = [
        resolve(root, "cli/main.ts"),
        "migrate",
        here.path("big.raw"),
        "--no-state",
        "--to",
        address!,
        "--json",
      ];
      const env = { ...process.env, SHRINKER_INSECURE: "1", XDG_CONFIG_HOME: "/dev/null" };
      const child = spawn(program, [...first, ...args], { env, timeout: 30_000, stdio: ["ignore", "pipe", "inherit"] });
      let said = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        said += text;
      });
      const code = await new Promise((done) => child.once("close", done));
      const received = await receiver.result;
      expect([code, received.code, received.stderr]).toEqual([0, 0, ""]);
      expect(here.arrived(output, ["big.raw"])).toBe(true);
      const sent = said
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
      for (const events of [sent, received.events()]) {
        expect(events.find(({ type }) => type === "opened")).toMatchObject({ carrier: CARRIER });
        expect(last(events)).toMatchObject({ type: "summary", ok: true, carrier: CARRIER });
      }
    },
    30_000,
  );

  test("people are told as well, and keys decide", async () => {
    const site = (name: string) => ({ env: { XDG_CONFIG_HOME: here.path(name), SHRINKER_INSECURE: "0" } });
    const keyOf = async (name: string) => (await cli(["identity"], site(name))).stdout.toString().split("\n")[0]!;
    const [near, far] = [await keyOf("near"), await keyOf("far")];
    expect((await cli(["identity", "--authorize", near, "--name", "near"], site("far"))).code).toBe(0);
    const output = here.path("known");
    await using receiver = startCli(["receive", "--listen", ANY, "--once", "--output", output], site("far"));
    const [, address] = await receiver.said(new RegExp(`listening on (\\S+), over ${LISTENS}`));
    const migrate = () => cli(["migrate", here.path("big.raw"), "--no-state", "--to", address!], site("near"));
    const unknown = await migrate();
    expect(unknown.code).toBe(4);
    expect(unknown.stderr).toContain(`it claims to be ${far}`);
    await cli(["identity", "--pin", address!, far], site("near"));
    const sent = await migrate();
    expect(sent.code).toBe(0);
    expect(sent.stderr).toMatch(new RegExp(`connected to webtransport:\\S+, over ${CARRIER}`));
    const received = await receiver.result;
    expect(received.code).toBe(0);
    expect(received.stderr).toMatch(new RegExp(`has come, over ${CARRIER}`));
    expect(here.arrived(output, ["big.raw"])).toBe(true);
  }, 30_000);

  test("a link that is cut is dialled again", async () => {
    const output = here.path("resumed");
    await using receiver = startCli(["receive", "--listen", ANY, "--once", "--output", output, "--json"]);
    const [, address] = await receiver.said(LISTENING);
    const relay = await startRelay({
      to: address!.replace("webtransport", "tcp"),
      faults: (link) => (link === 0 ? { up: [cutAfter(3 * MIB)] } : {}),
    });
    const to = relay.address.replace("tcp", "webtransport");
    const sent = await cli([
      "migrate",
      here.path("big.raw"),
      "--no-state",
      "--bandwidth",
      "20MB",
      "--to",
      to,
      "--json",
    ]);
    const received = await receiver.result;
    await relay.close();
    expect([sent.code, sent.stderr, received.code, received.stderr]).toEqual([0, "", 0, ""]);
    expect(relay.links).toBe(2);
    expect(sent.events().filter(({ state }) => state === "reconnecting")).toHaveLength(1);
    expect(here.arrived(output, ["big.raw"])).toBe(true);
  }, 30_000);
});
