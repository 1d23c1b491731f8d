// The launcher against every way in which npm leaves Bun behind, with small scripts in Bun's place.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { run } from "../support/run.ts";

const cli = resolve(import.meta.dirname, "../../cli");
// What npm's bun package holds until its install script has run: a text without a first line for the kernel.
const UNFINISHED = 'echo "Error: the postinstall script was not run." >&2\nexit 1\n';

let folder: string;
let home: string;

function put(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
  chmodSync(join(folder, path), 0o755);
}

/** A Bun that says its name, the arguments after the launcher's own options, and ends with exit code 7. */
const putBun = (path: string, name: string) =>
  put(
    path,
    `#!/bin/sh\nwhile [ "\${1#--}" != "$1" ]; do shift; done\necho ${name} "$1"\nshift\nprintf '<%s>' "$@"\nexit 7\n`,
  );

/** What the launcher that is reached by `path` says, with nothing but the system's programs on the PATH. */
async function launch(path: string, extraPath = ""): Promise<string> {
  const env = { PATH: `${extraPath}/usr/bin:/bin` };
  const { code, stdout, stderr } = await run(join(folder, path), ["migrate", "a b", "--version"], { cwd: "/", env });
  return `${code} ${stdout.replaceAll(home, "HOME")}${stderr}`;
}

const EXPECTED = (name: string) => `7 ${name} HOME/cli/main.ts\n<migrate><a b><--version>`;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "launcher "));
  home = join(folder, "node_modules/shrinker");
  mkdirSync(join(home, "cli"), { recursive: true });
  for (const name of ["bun", "shrinker"]) {
    copyFileSync(join(cli, name), join(home, "cli", name));
    chmodSync(join(home, "cli", name), 0o755);
  }
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the launcher finds Bun", () => {
  const COMMAND = "node_modules/shrinker/cli/shrinker";

  test("where its install script has put it", async () => {
    putBun("node_modules/bun/bin/bun.exe", "installed");
    expect(await launch(COMMAND)).toBe(EXPECTED("installed"));
  });

  test("in the platform's package where the install script has not run", async () => {
    put("node_modules/bun/bin/bun.exe", UNFINISHED);
    putBun("node_modules/@oven/bun-linux-x64/bin/bun", "platform");
    expect(await launch(COMMAND)).toBe(EXPECTED("platform"));
  });

  test("in a store that the package is a link into", async () => {
    put("store/bun/bin/bun.exe", UNFINISHED);
    putBun("store/@oven/bun-linux-x64/bin/bun", "store");
    symlinkSync(join(folder, "store/bun"), join(folder, "node_modules/bun"));
    expect(await launch(COMMAND)).toBe(EXPECTED("store"));
  });

  test("of its own before that of the folder above", async () => {
    putBun("node_modules/bun/bin/bun.exe", "above");
    putBun("node_modules/shrinker/node_modules/bun/bin/bun.exe", "own");
    expect(await launch(COMMAND)).toBe(EXPECTED("own"));
  });

  test("on the PATH, past an unfinished one", async () => {
    put("node_modules/bun/bin/bun.exe", UNFINISHED);
    put("node_modules/.bin/bun", UNFINISHED);
    putBun("elsewhere/bun", "path");
    const path = ["node_modules/shrinker/cli", "node_modules/.bin", "elsewhere", ""].map((name) => join(folder, name));
    expect(await launch(COMMAND, `${path.join(":")}:`)).toBe(EXPECTED("path"));
  });

  test("or says in one line what is missing", async () => {
    put("node_modules/bun/bin/bun.exe", UNFINISHED);
    expect(await launch(COMMAND)).toMatch(/^70 shrinker: cannot find Bun.*\n$/);
  });

  test("through links to itself", async () => {
    putBun("node_modules/bun/bin/bun.exe", "installed");
    mkdirSync(join(folder, "node_modules/.bin"));
    mkdirSync(join(folder, "bin"));
    symlinkSync("../shrinker/cli/shrinker", join(folder, "node_modules/.bin/shrinker"));
    symlinkSync("../node_modules/.bin/shrinker", join(folder, "bin/sh"));
    expect(await launch("bin/sh")).toBe(EXPECTED("installed"));
  });
});

test("the program is the process that was started, and gets its signals", async () => {
  put("node_modules/bun/bin/bun.exe", '#!/bin/sh\ntrap "exit 42" TERM\necho $$\nwhile :; do sleep 0.05; done\n');
  const child = spawn(join(home, "cli/shrinker"), { stdio: ["ignore", "pipe", "ignore"] });
  const [pid] = (await once(child.stdout, "data")) as [Buffer];
  expect(Number(pid.toString())).toBe(child.pid as number);
  // Not child.kill(): Deno then reports that signal as the end, whatever the child did.
  process.kill(child.pid as number, "SIGTERM");
  expect(await once(child, "exit")).toEqual([42, null]);
});
