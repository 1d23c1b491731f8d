// Machines go through the command, every way there is, and arrive as they were.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { cli, SHELL_COMMAND, startCli } from "../support/cli.ts";
import { type Workspace, workspace } from "./files.ts";

const NAMES = ["guest.qevm", "disk.raw", "twin.raw"];
let here: Workspace;
beforeAll(() => {
  here = workspace();
});
afterAll(() => here[Symbol.dispose]());

interface Summary {
  readonly type: string;
  readonly ok: boolean;
  readonly bytes: Record<string, number>;
  readonly pages: Record<string, number>;
  readonly streams: { name: string; digest: string; sha256: string; bytes: object; landed: boolean }[];
}

const machines = () => NAMES.map((name) => here.path(name));
const last = (events: object[]) => events.at(-1) as Summary;

/** What both ends have to agree on. */
const common = ({ bytes, pages, streams }: Summary) => ({
  bytes,
  pages,
  streams: streams.map(({ name, digest, sha256, bytes, landed }) => ({ name, digest, sha256, bytes, landed })),
});

describe("over a socket", () => {
  test.each([
    ["tcp", () => "tcp://127.0.0.1:0", []],
    ["webtransport", () => "webtransport://127.0.0.1:0", []],
    ["unix", () => `unix:${here.path("socket")}`, ["--parallel", "3", "--compress", "lz4"]],
  ])("%s: both ends say the same", async (kind, listen, more) => {
    const output = here.path(`from-${kind}`);
    await using receiver = startCli(["receive", "--listen", listen(), "--once", "--output", output, "--json"]);
    const [, address] = await receiver.said(/"listening","address":"([^"]+)"/);
    const sent = await cli(["migrate", ...machines(), "--to", address!, "--json", ...more]);
    const received = await receiver.result;
    expect([sent.code, sent.stderr, received.code, received.stderr]).toEqual([0, "", 0, ""]);
    expect(here.arrived(output, NAMES)).toBe(true);
    const summary = last(sent.events());
    expect(summary).toMatchObject({ type: "summary", ok: true });
    expect(common(last(received.events()))).toEqual(common(summary));
    const { plain, zero, deduplicated, new: fresh, wire } = summary.bytes as Record<string, number>;
    expect(plain).toBe(machines().reduce((sum, path) => sum + statSync(path).size, 0));
    expect(zero! + deduplicated! + fresh!).toBe(plain!);
    expect(wire!).toBeLessThan(plain!);
    expect(deduplicated!).toBeGreaterThanOrEqual(128 * 4096);
    expect(sent.events().filter(({ type }) => type === "landed")).toHaveLength(3);
  });

  test("--sha256 adds the SHA-256 of each file, at both ends alike", async () => {
    const output = here.path("with-sha256");
    await using receiver = startCli([
      "receive",
      "--listen",
      "tcp://127.0.0.1:0",
      "--once",
      "--output",
      output,
      "--sha256",
      "--json",
    ]);
    const [, address] = await receiver.said(/"listening","address":"([^"]+)"/);
    const sent = await cli(["migrate", ...machines(), "--to", address!, "--sha256", "--json"]);
    const received = await receiver.result;
    const expected = machines().map((path) => createHash("sha256").update(readFileSync(path)).digest("hex"));
    expect(last(sent.events()).streams.map(({ sha256 }) => sha256)).toEqual(expected);
    expect(last(received.events()).streams.map(({ sha256 }) => sha256)).toEqual(expected);
  });

  test("a daemon serves one after the other and survives what fails", async () => {
    const output = here.path("from-daemon");
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--output", output];
    await using daemon = startCli(listen);
    const [, address] = await daemon.said(/listening on (\S+)/);
    const migrate = (name: string, ...more: string[]) => cli(["migrate", here.path(name), "--to", address!, ...more]);
    expect((await migrate("disk.raw")).code).toBe(0);
    expect((await migrate("disk.raw")).code).toBe(7);
    expect((await migrate("twin.raw", "--domain", "other")).code).toBe(4);
    expect((await migrate("twin.raw")).code).toBe(0);
    daemon.kill("SIGTERM");
    const { code, stdout, stderr } = await daemon.result;
    expect([code, stdout.length]).toEqual([143, 0]);
    expect(stderr).toContain("disk.raw landed");
    expect(stderr).toContain("it exists already");
    expect(stderr).toContain('domain "other"');
    expect(here.arrived(output, ["disk.raw", "twin.raw"])).toBe(true);
  });

  test("more sessions than there may be are refused", async () => {
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--max-sessions", "1", "--output", here.path("full")];
    await using daemon = startCli(listen);
    const [, address] = await daemon.said(/listening on (\S+)/);
    const slow = ["migrate", here.path("disk.raw"), "--to", address!, "--bandwidth", "80kbit", "--json"];
    await using first = startCli(slow);
    await first.said(/"opened"/);
    const second = await cli(["migrate", here.path("twin.raw"), "--to", address!]);
    expect(second.code).toBe(4);
    expect(second.stderr).toContain("try again later");
  });
});

test("as a bundle, also through pipes, and stdout carries nothing else", async () => {
  const bundle = here.path("site.bundle");
  const made = await cli(["migrate", ...machines(), "--to", `file:${bundle}`, "--json"]);
  const read = await cli(["receive", `file:${bundle}`, "--output", here.path("from-bundle"), "--json"]);
  expect([made.code, read.code]).toEqual([0, 0]);
  expect(last(made.events()).bytes.wire).toBe(statSync(bundle).size);
  expect(common(last(read.events()))).toEqual(common(last(made.events())));
  expect(here.arrived(here.path("from-bundle"), NAMES)).toBe(true);

  const piped = await cli(["migrate", ...machines(), "--to", "file:-", "--json"]);
  expect(piped.stderr).toContain('"type":"summary","ok":true');
  const output = here.path("from-pipe");
  expect((await cli(["receive", "file:-", "--output", output], { input: piped.stdout })).code).toBe(0);
  expect(here.arrived(output, NAMES)).toBe(true);
});

test("through a command", async () => {
  const output = here.path("from-exec");
  const to = `exec:${SHELL_COMMAND} receive --stdio --output '${output}'`;
  const { code, stdout, stderr } = await cli(["migrate", ...machines(), "--to", to]);
  expect({ code, output: stdout.toString().includes("on the wire") }).toEqual({ code: 0, output: true });
  // The other end's own summary.
  expect(stderr).toContain("on the wire");
  expect(here.arrived(output, NAMES)).toBe(true);
});

test("stdin as a machine, stdout as its place", async () => {
  const input = Buffer.from("not a page, not a stream");
  const bundle = here.path("stdin.bundle");
  expect((await cli(["migrate", "notes=-", "--format", "bytes", "--to", `file:${bundle}`], { input })).code).toBe(0);
  const { stdout, stderr } = await cli(["receive", `file:${bundle}`, "--output", "-"]);
  expect(stdout.equals(input)).toBe(true);
  expect(stderr).toContain("notes");
});

test("a dry run says what a run sends, and writes nothing", async () => {
  const before = readdirSync(here.folder).length;
  const bundle = here.path("dry.bundle");
  const dry = await cli(["migrate", ...machines(), "--to", `file:${bundle}`, "--dry-run", "--json"]);
  expect([dry.code, readdirSync(here.folder).length]).toEqual([0, before]);
  const { code, events } = await cli(["migrate", ...machines(), "--to", `file:${bundle}`, "--json"]);
  expect([code, last(events()).bytes]).toEqual([0, last(dry.events()).bytes]);
  expect(last(dry.events()).streams.some(({ landed }) => landed)).toBe(false);
  const verified = await cli(["receive", `file:${bundle}`, "--dry-run"]);
  expect([verified.code, readdirSync(here.folder).length]).toEqual([0, before + 1]);
});
