// The packed package, installed as its users install it, outside the source tree.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { must, run } from "../support/run.ts";

const SLOW = 180_000;
const root = resolve(import.meta.dirname, "../..");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
// The settings of the npm run that started this test, such as its ignore-scripts, must not decide what is tested.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
const QUIET = ["--prefer-offline", "--no-audit", "--no-fund", "--no-update-notifier"];

let folder: string;
let archive: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "package-"));
  const packed = await must("npm", ["pack", "--json", "--pack-destination", folder], { cwd: root, env, seconds: 120 });
  // The build that `prepack` runs may print lines of its own before the JSON.
  const [{ filename }] = JSON.parse(packed.slice(packed.search(/^\[/m))) as [{ filename: string }];
  archive = join(folder, filename);
}, SLOW);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each([
  ["allowed", []],
  ["off", ["--ignore-scripts"]],
])("installed with install scripts %s", (name, flags) => {
  let here: string;

  beforeAll(async () => {
    here = join(folder, name);
    mkdirSync(here);
    writeFileSync(join(here, "package.json"), JSON.stringify({ private: true, type: "module" }));
    await must("npm", ["install", ...QUIET, ...flags, archive], { cwd: here, env, seconds: 150 });
  }, SLOW);

  test("npx shrinker works", async () => {
    expect((await must("npx", ["shrinker", "--version"], { cwd: here, env })).trim()).toContain(version);
  });

  test("an error of the program is the exit code of the command", async () => {
    const { code, stdout, stderr } = await run(join(here, "node_modules/.bin/shrinker"), ["no-such-command"], {
      cwd: here,
      env,
    });
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr.trim().split("\n")[0]).toContain("no-such-command");
  });

  test("the folder where it is started does not change how it starts", async () => {
    const hostile = join(here, "hostile");
    mkdirSync(hostile);
    writeFileSync(join(hostile, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(join(hostile, "preload.ts"), "process.exit(99);\n");
    writeFileSync(join(hostile, "tsconfig.json"), "not json");
    const command = join(here, "node_modules/.bin/shrinker");
    const { code, stderr } = await run(command, ["--version"], { cwd: hostile, env });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  test.each([
    ["Bun", () => [join(here, "node_modules/shrinker/cli/bun")]],
    ["Deno", () => [join(root, "node_modules/.bin/deno"), "run", "-A"]],
  ])("is a library on %s", async (_runtime, command) => {
    writeFileSync(
      join(here, "library.mjs"),
      `import * as shrinker from "shrinker";
       import * as transports from "shrinker/transports";
       for (const part of [shrinker, transports]) console.log(Object.keys(part).sort().join());`,
    );
    const [program, ...args] = command() as [string, ...string[]];
    const names = (await must(program, [...args, "library.mjs"], { cwd: here, env })).trim().split("\n");
    expect(names).toHaveLength(2);
    expect(names[0]).toContain("ShrinkerError");
    expect(names[1]).not.toBe("");
  });

  test("its types can be used", async () => {
    writeFileSync(
      join(here, "types.ts"),
      `import { ShrinkerError } from "shrinker";
       export const code: ShrinkerError["code"] = "input";
       // @ts-expect-error: were the types not found, any word would do.
       export const wrong: ShrinkerError["code"] = "no such code";`,
    );
    const flags = ["--noEmit", "--strict", "--module", "nodenext", "--target", "esnext", "--skipLibCheck"];
    await must(join(root, "node_modules/.bin/tsc"), [...flags, "types.ts"], { cwd: here, env });
  });
});

test(
  "npm install --global puts a working command into a prefix",
  async () => {
    const prefix = join(folder, "prefix");
    await must("npm", ["install", ...QUIET, "--global", "--prefix", prefix, archive], { env, seconds: 150 });
    expect(await must(join(prefix, "bin/shrinker"), ["--version"], { cwd: folder, env })).toContain(version);
  },
  SLOW,
);
