// What goes wrong has its exit code, one line that says why, and leaves nothing behind.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { fixedCodec } from "../../core/engine/codec-policy.ts";
import { sendAll } from "../../core/engine/migration.ts";
import { openSession } from "../../core/engine/source-session.ts";
import type { StreamSource } from "../../core/machines/machine.ts";
import { parseAddress } from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";
import { COMMAND, cli, startCli } from "../support/cli.ts";
import { noise, type Workspace, workspace } from "./files.ts";

let here: Workspace;
beforeAll(async () => {
  here = workspace();
  const machines = ["guest.qevm", "disk.raw"].map((name) => here.path(name));
  const { code, stderr } = await cli(["migrate", ...machines, "--to", `file:${here.path("good.bundle")}`]);
  if (code !== 0) throw new Error(stderr);
  const bundle = readFileSync(here.path("good.bundle"));
  writeFileSync(here.path("cut.bundle"), bundle.subarray(0, bundle.length - 30));
  bundle[bundle.length >> 1]! ^= 1;
  writeFileSync(here.path("flipped.bundle"), bundle);
  writeFileSync(here.path("a=b"), "");
  // Large enough for seconds at a rate at which a batch takes less than one, which is how long a farewell may take.
  writeFileSync(here.path("large.raw"), noise(8 << 20, 9));
});
afterAll(() => here[Symbol.dispose]());

/** Runs in the folder of the machines. */
const run = (...args: string[]) => cli(args, { cwd: here.folder });

describe("a migration that can't begin", () => {
  test.each([
    [2, "No command", []],
    [2, 'Unknown command "launch"', ["launch"]],
    [2, "No machine", ["migrate", "--to", "file:x"]],
    [2, "Give --to ADDRESS", ["migrate", "disk.raw"]],
    [2, 'Unknown scheme "ftp:"', ["migrate", "disk.raw", "--to", "ftp://x"]],
    [2, "--bandwidth", ["migrate", "disk.raw", "--to", "file:x", "--bandwidth", "100"]],
    [2, "--compress", ["migrate", "disk.raw", "--to", "file:x", "--compress", "gzip"]],
    [2, 'are called "disk.raw"', ["migrate", "disk.raw", "./disk.raw", "--to", "tcp://127.0.0.1:9"]],
    [2, "Unknown machine", ["migrate", "vbox:socket", "--to", "file:x"]],
    [2, "go into a bundle", ["migrate", "qmp:socket", "--to", "file:x"]],
    [2, "--recover is for guests that run", ["migrate", "disk.raw", "--to", "file:x", "--recover"]],
    [2, "expected nbd:PATH", ["migrate", "nbd:", "--to", "file:x"]],
    [2, "--parallel", ["migrate", "disk.raw", "--to", "tcp://127.0.0.1:9", "--parallel", "65"]],
    [5, "nothing listens there", ["migrate", "disk.raw", "--to", "tcp://127.0.0.1:9", "--parallel", "64"]],
    [2, "--parallel", ["migrate", "qmp:socket", "--to", "tcp://127.0.0.1:9", "--parallel", "65"]],
    [3, '"nothing.qcow2": no such file', ["migrate", "nbd:nothing.qcow2", "--to", "tcp://127.0.0.1:9"]],
    [3, '"nothing.raw": no such file', ["migrate", "disk.raw", "nothing.raw", "--to", "tcp://127.0.0.1:9"]],
    [4, "refused: it is a folder", ["migrate", "./a=b", "..=disk.raw", "--to", "file:x"]],
    [5, "nothing listens there", ["migrate", "disk.raw", "--to", "tcp://127.0.0.1:9"]],
    [5, "status 3", ["migrate", "disk.raw", "--to", "exec:exit 3"]],
    [7, "--force", ["migrate", "disk.raw", "--to", "file:good.bundle"]],
    [8, "no space left", ["migrate", "disk.raw", "--to", "file:/dev/full"]],
  ] as const)("exit code %d: %s", async (code, message, args) => {
    const before = readdirSync(here.folder);
    const result = await run(...args);
    expect(result.stderr).toContain(message);
    expect(result.stderr.trimEnd().split("\n")).toHaveLength(1);
    expect({ code: result.code, stdout: result.stdout.toString() }).toEqual({ code, stdout: "" });
    expect(readdirSync(here.folder)).toEqual(before);
  });
});

describe("a bundle that is wrong", () => {
  test.each(["cut.bundle", "flipped.bundle"])("%s", async (bundle) => {
    const output = here.path(`from-${bundle}`);
    const result = await run("receive", `file:${bundle}`, "--output", output, "--json");
    expect(result.events().slice(-2)).toMatchObject([{ type: "error" }, { type: "summary", ok: false }]);
    // All that is there has landed; what has not leaves nothing.
    const streams = result.events().at(-1)!.streams as { name: string; landed: boolean }[];
    const landed = streams.filter((stream) => stream.landed).map(({ name }) => name);
    expect(here.arrived(output, landed)).toBe(true);
    expect(result.code).toBe(landed.length > 0 ? 9 : 6);
    expect((await run("receive", `file:${bundle}`, "--dry-run")).code).toBe(6);
  });

  test("is no bundle at all", async () => {
    expect((await run("receive", "file:disk.raw", "--output", here.path("none"))).code).toBe(6);
    expect((await run("receive", "file:nothing.bundle", "--output", here.path("none"))).code).toBe(3);
  });
});

test("a name from outside stays in the folder", async () => {
  const signal = new AbortController().signal;
  const to = parseAddress(`file:${here.path("evil.bundle")}`, transports);
  const connection = await transports.get("file")!.dial(to, { signal });
  const session = await openSession(connection, {
    ...{ domain: "default", windowLog: 20, logLimit: 1000, software: "evil\x1b[2J", signal, spoolDir: here.folder },
    codec: fixedCodec("none"),
  });
  const evil: StreamSource = {
    info: { name: "../x\x1b[2J", format: "bytes" },
    async *pieces() {
      yield { bytes: new Uint8Array(10) };
    },
  };
  await sendAll(session, [evil], false, { parallel: 1, signal });
  const { code, stderr } = await run("receive", "file:evil.bundle", "--output", here.path("evil"));
  expect(code).toBe(4);
  expect(stderr).toContain('The name "../x');
  expect(stderr).not.toContain("\x1b");
  expect([readdirSync(here.path("evil")), readdirSync(here.folder).includes("x")]).toEqual([[], false]);
});

test("a target that exists is refused, replaced with --force, and decides for all with --all-or-nothing", async () => {
  const output = here.path("taken");
  mkdirSync(output);
  writeFileSync(here.path("taken", "disk.raw"), "mine");
  const all = await run("receive", "file:good.bundle", "--output", output, "--all-or-nothing");
  expect([all.code, readdirSync(output)]).toEqual([7, ["disk.raw"]]);
  const some = await run("receive", "file:good.bundle", "--output", output);
  expect([some.code, readFileSync(here.path("taken", "disk.raw"), "utf8")]).toEqual([9, "mine"]);
  expect(some.stderr).toContain('"disk.raw" did not');
  const forced = await run("receive", "file:good.bundle", "--output", output, "--force");
  expect(forced.code).toBe(0);
  expect(here.arrived(output, ["disk.raw", "guest.qevm"])).toBe(true);
});

describe("a signal", () => {
  test.each([
    ["SIGINT", 130, "source"],
    ["SIGTERM", 143, "destination"],
  ] as const)("%s: exit code %d at the %s, the other end is told, no file is left", async (signal, code, end) => {
    const output = here.path(`interrupted-${signal}`);
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--once", "--output", output];
    await using receiver = startCli(listen);
    const [, address] = await receiver.said(/listening on (\S+)/);
    const slow = ["--bandwidth", "20Mbit", "--json"];
    await using sender = startCli(["migrate", here.path("large.raw"), "--to", address!, ...slow]);
    await sender.said(/"progress"/);
    const [one, other] = end === "source" ? [sender, receiver] : [receiver, sender];
    one.kill(signal);
    expect((await one.result).code).toBe(code);
    const { code: otherCode, stderr } = await other.result;
    expect(otherCode).toBe(5);
    expect(stderr).toContain(`The other end gave up: Interrupted by ${signal}`);
    expect(readdirSync(output)).toEqual([]);
  });

  test("removes an unfinished bundle", async () => {
    const before = readdirSync(here.folder);
    const to = `file:${here.path("unfinished.bundle")}`;
    await using sender = startCli(["migrate", here.path("disk.raw"), "--to", to, "--bandwidth", "80kbit", "--json"]);
    await sender.said(/"progress"/);
    sender.kill("SIGINT");
    expect((await sender.result).code).toBe(130);
    expect(readdirSync(here.folder)).toEqual(before);
  });
});

test("a reader of stdout that goes is no reason to fail", async () => {
  await using sender = startCli([
    "migrate",
    here.path("disk.raw"),
    "--to",
    `file:${here.path("epipe.bundle")}`,
    "--json",
  ]);
  sender.child.stdout!.destroy();
  expect((await sender.result).code).toBe(0);
});

test.each([["stdout"], ["stderr"]])("nor are words for which there is no room: %s", async (stream) => {
  const to = `file:${here.path(`${stream}.bundle`)}`;
  const redirected = `exec "$0" "$@" ${stream === "stdout" ? ">" : "2>"}/dev/full`;
  const command = ["/bin/sh", "-c", redirected, ...COMMAND];
  expect((await cli(["migrate", here.path("disk.raw"), "--to", to, "--json"], { command })).code).toBe(0);
  expect(statSync(here.path(`${stream}.bundle`)).size).toBeGreaterThan(0);
});
