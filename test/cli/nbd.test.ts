// A disk goes through the command by its content; what reads it stands in for qemu-nbd.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cli, startCli } from "../support/cli.ts";
import { type NbdProgram, writeNbdProgram } from "../support/nbd-program.ts";
import { noise, type Workspace, workspace } from "./files.ts";

let here: Workspace;
let program: NbdProgram;
let env: Record<string, string>;
beforeAll(() => {
  here = workspace();
  for (const name of ["bin", "tmp"]) mkdirSync(here.path(name));
  program = writeNbdProgram(here.path("bin"));
  env = { PATH: `${here.path("bin")}:${process.env.PATH}`, TMPDIR: here.path("tmp") };
  writeFileSync(here.path("SILENT"), Buffer.concat([Buffer.from("SILENT"), noise(1 << 20, 1)]));
  writeFileSync(here.path("BROKEN"), "BROKEN");
});
afterAll(() => here[Symbol.dispose]());

const run = (...args: string[]) => cli(args, { cwd: here.folder, env });
const left = () => ({ running: program.runs(), temporary: readdirSync(here.path("tmp")) });
const NOTHING = { running: false, temporary: [] };

test("a disk is read by qemu-nbd and lands under its name", async () => {
  const sent = await run("migrate", "copy.raw=nbd:./disk.raw", "twin.raw", "--to", "file:site.bundle", "--json");
  expect([sent.code, sent.stderr]).toEqual([0, ""]);
  expect(sent.events().at(-1)).toMatchObject({ streams: [{ name: "copy.raw", format: "raw" }, { name: "twin.raw" }] });
  expect(left()).toEqual(NOTHING);
  expect((await run("receive", "file:site.bundle", "--output", "out")).code).toBe(0);
  expect(Buffer.compare(readFileSync(here.path("out", "copy.raw")), readFileSync(here.path("disk.raw")))).toBe(0);
});

test.each([
  [2, "are called", ["nbd:disk.raw", "disk.raw"]],
  [2, "--spool-limit", ["nbd:disk.raw", "--spool-limit", "much"]],
  [3, "it is broken", ["twin.raw", "nbd:BROKEN"]],
  [4, "refused", ["nbd:disk.raw", "..=twin.raw"]],
  [5, "nothing listens there", ["nbd:disk.raw"]],
] as const)("exit code %d (%s) leaves no process and no folder", async (code, message, args) => {
  const result = await run("migrate", ...args, "--to", "tcp://127.0.0.1:9");
  expect(result.stderr).toContain(message);
  expect(result.code).toBe(code);
  expect(left()).toEqual(NOTHING);
});

test("a signal ends a migration that waits for the disk", async () => {
  await using sender = startCli(["migrate", "nbd:SILENT", "--to", "file:silent.bundle", "--json"], {
    cwd: here.folder,
    env,
  });
  await sender.said(/"opened"/);
  sender.kill("SIGINT");
  expect((await sender.result).code).toBe(130);
  expect(left()).toEqual(NOTHING);
  expect(readdirSync(here.folder)).not.toContain("silent.bundle");
});

test("a disk whose reader can't be found says what to install", async () => {
  const result = await cli(["migrate", "nbd:disk.raw", "--to", "file:none.bundle"], {
    cwd: here.folder,
    env: { PATH: here.path("out") },
  });
  expect(result.stderr).toContain("qemu-nbd is not installed; install qemu-utils");
  expect(result.code).toBe(3);
});
