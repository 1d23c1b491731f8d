// What others have written, on a terminal, in a script's events and as a file's name: nothing of it is obeyed.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { Close, Done, encodeControl, Hello, Open, Reset } from "../../core/wire/control.ts";
import { FRAME } from "../../core/wire/numbers.ts";
import { joinFrames, splitFrames } from "../core/engine/wire.ts";
import { cli } from "../support/cli.ts";
import { record, source } from "../support/session.ts";
import { type Workspace, workspace } from "./files.ts";

const EVIL = "\x1b[2J\x1b]0;title\x07\r\nshrinker: fine\u202e\x9b31m";
/** What a terminal obeys, but for the ends of lines that are the program's own. */
const OBEYED = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;

let here: Workspace;
let recording: Buffer;
beforeAll(async () => {
  here = workspace();
  recording = await record([source("disk", "raw", [Buffer.alloc(5000, "x")])], { domain: "default" });
});
afterAll(() => here[Symbol.dispose]());

/** The recording under another name, of other software, or whose stream has failed with these words. */
function bundle(change: { name?: string; software?: string; message?: string }): string {
  const { name = "disk", software = "x", message } = change;
  const hello = { session: Buffer.alloc(16), domain: "default", window: 20, log: 1 << 20, software };
  const frames = splitFrames(recording).flatMap(({ type, payload }) => {
    if (type === FRAME.HELLO) return { type, payload: encodeControl(Hello, hello) };
    if (type === FRAME.OPEN) return { type, payload: encodeControl(Open, { stream: 1, name, format: "raw" }) };
    if (type === FRAME.CLOSE && message !== undefined)
      return { type: FRAME.RESET, payload: encodeControl(Reset, { stream: 1, code: "input", message }) };
    return { type, payload };
  });
  writeFileSync(here.path("made.bundle"), joinFrames(frames));
  return here.path("made.bundle");
}

const receive = (path: string, ...args: string[]) =>
  cli(["receive", `file:${path}`, "--output", here.path("out"), ...args]);

test("words of others are shown without what a terminal obeys", async () => {
  const named = bundle({ name: EVIL, software: EVIL });
  const shown = [await cli(["inspect", named]), await receive(named, "--json")];
  shown.push(await receive(bundle({ software: EVIL, message: EVIL })));
  for (const { stdout, stderr } of shown) expect(OBEYED.test(stdout.toString() + stderr)).toBe(false);
  expect(shown.map(({ code }) => code)).toEqual([4, 4, 3]);
  // Nor are they left out.
  for (const { stdout, stderr } of shown) expect(stdout.toString() + stderr).toContain("title");
});

test("a name that leads elsewhere makes no file, and other streams land", async () => {
  const evil = [
    "../escaped",
    here.path("escaped"),
    "a/escaped",
    "..",
    ".",
    "escaped\0",
    "escaped\n",
    ".shrinker-escaped",
  ];
  const names = [...evil, "fine"];
  const frames = names.flatMap((name, i) => [
    { type: FRAME.OPEN, payload: encodeControl(Open, { stream: i + 1, name, format: "raw" }) },
    { type: FRAME.CLOSE, payload: encodeControl(Close, { stream: i + 1, length: 0, digest: Buffer.alloc(32) }) },
  ]);
  const [hello] = splitFrames(recording);
  const done = { type: FRAME.DONE, payload: encodeControl(Done, { streams: names.length }) };
  writeFileSync(here.path("made.bundle"), joinFrames([hello!, ...frames, done]));
  const { code, events } = await receive(here.path("made.bundle"), "--json");
  expect(code).not.toBe(0);
  expect(events().filter(({ type, code }) => type === "failed" && code === "refused")).toHaveLength(evil.length);
  expect(readdirSync(here.path("out"))).toEqual(["fine"]);
  expect(readdirSync(here.folder).filter((file) => file.includes("escaped"))).toEqual([]);
});

test("a link in the output folder is not written through, also where it may be replaced", async () => {
  const victim = here.path("victim");
  writeFileSync(victim, "mine");
  mkdirSync(here.path("linked"));
  symlinkSync(victim, here.path("linked", "disk"));
  const into = (...args: string[]) => cli(["receive", `file:${bundle({})}`, "--output", here.path("linked"), ...args]);
  expect((await into()).code).toBe(7);
  expect(lstatSync(here.path("linked", "disk")).isSymbolicLink()).toBe(true);
  expect((await into("--force")).code).toBe(0);
  expect(lstatSync(here.path("linked", "disk")).isSymbolicLink()).toBe(false);
  expect(readFileSync(victim, "utf8")).toBe("mine");
});
