import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { cli } from "../support/cli.ts";
import { type Workspace, workspace } from "./files.ts";

const PAGE = 4096;
let here: Workspace;
beforeAll(async () => {
  here = workspace();
  const machines = ["guest.qevm", "disk.raw"].map((name) => here.path(name));
  await cli(["migrate", ...machines, "--to", `file:${here.path("site.bundle")}`, "--domain", "lab"]);
});
afterAll(() => here[Symbol.dispose]());

test("says what streams hold", async () => {
  const { code, events } = await cli(["inspect", here.path("disk.raw"), here.path("guest.qevm"), "--json"]);
  const [disk, guest, summary] = events() as [object, { bytes: Record<string, number>; qemu: object }, object];
  expect(code).toBe(0);
  const bytes = { plain: 178 * PAGE + 100, zero: 50 * PAGE, duplicate: 64 * PAGE, distinct: 64 * PAGE, literal: 100 };
  expect(disk).toMatchObject({ type: "inspected", kind: "stream", format: "raw", bytes });
  expect(guest).toMatchObject({ format: "qemu", qemu: { machine: "pc-i440fx-10.0", state: "devices" } });
  const { plain, zero, duplicate, distinct, literal } = guest.bytes as Record<string, number>;
  expect(zero! + duplicate! + distinct! + literal!).toBe(plain!);
  expect(plain).toBe(statSync(here.path("guest.qevm")).size);
  expect(summary).toMatchObject({ type: "summary", ok: true, files: 2 });
});

test("says what a bundle holds, of any domain", async () => {
  const { code, events } = await cli(["inspect", here.path("site.bundle"), "--json"]);
  const size = statSync(here.path("site.bundle")).size;
  const streams = [
    { name: "guest.qevm", format: "qemu" },
    { name: "disk.raw", format: "raw", complete: true },
  ];
  expect(code).toBe(0);
  expect(events()[0]).toMatchObject({ kind: "bundle", domain: "lab", complete: true, bytes: { wire: size }, streams });
});

test("says where a bundle is cut, and shows people the rest", async () => {
  const bundle = readFileSync(here.path("site.bundle"));
  writeFileSync(here.path("cut.bundle"), bundle.subarray(0, bundle.length - 30));
  const { code, stdout, stderr } = await cli(["inspect", here.path("cut.bundle"), here.path("guest.qevm")]);
  expect(code).toBe(6);
  expect(stderr).toContain("cut short");
  for (const word of ["damaged", "disk.raw", "RAM block", "sections: "]) expect(stdout.toString()).toContain(word);
});

test("help and version are there", async () => {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  expect((await cli(["--version"])).stdout.toString()).toBe(`shrinker ${version}\n`);
  const help = (await cli(["--help"])).stdout.toString();
  for (const command of ["migrate", "receive", "inspect"]) expect(help).toContain(command);
  expect((await cli(["migrate", "--help"])).stdout.toString()).toContain("--bandwidth <RATE>");
});
