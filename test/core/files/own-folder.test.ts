import { expect, test } from "bun:test";
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeOwnFolder } from "../../../core/files/own-folder.ts";
import { startCli } from "../../support/cli.ts";
import { inFolder } from "../../transports/helpers.ts";

const LOCK = "own-folder.lock";

/** As a process that was killed has left it. */
function left(parent: string, name: string, mode = 0o700): string {
  const path = join(parent, name);
  mkdirSync(path);
  writeFileSync(join(path, LOCK), "");
  writeFileSync(join(path, "in"), "");
  chmodSync(path, mode);
  return path;
}

test("one is for its user alone, and goes with all that is in it", () =>
  inFolder(async (parent) => {
    const one = await makeOwnFolder(parent);
    expect(lstatSync(one.path).mode & 0o777).toBe(0o700);
    writeFileSync(join(one.path, "socket"), "");
    const other = await makeOwnFolder(parent, "shrinker-nbd-");
    expect(existsSync(join(one.path, "socket"))).toBe(true);
    await one[Symbol.asyncDispose]();
    expect(readdirSync(parent)).toEqual([other.path.slice(parent.length + 1)]);
    await other[Symbol.asyncDispose]();
    expect(readdirSync(parent)).toEqual([]);
  }));

test("those of dead processes are removed, and nothing else", () =>
  inFolder(async (parent) => {
    for (const name of ["shrinker-abc123", "shrinker-nbd-ABC_12"]) left(parent, name);
    const kept = [
      left(parent, "shrinker-store"),
      left(parent, "another-abc123"),
      left(parent, "shrinker-open12", 0o755),
      join(parent, "shrinker-nolock"),
      join(parent, "shrinker-file12"),
      join(parent, "shrinker-link12"),
      join(parent, "shrinker-inside"),
    ];
    for (const name of ["nolock", "inside"]) mkdirSync(join(parent, `shrinker-${name}`), { mode: 0o700 });
    writeFileSync(join(parent, "shrinker-file12"), "");
    symlinkSync(left(parent, "elsewhere"), join(parent, "shrinker-link12"));
    // Its lock is somebody else's file.
    symlinkSync(join(parent, "elsewhere", LOCK), join(parent, "shrinker-inside", LOCK));
    await using one = await makeOwnFolder(parent);
    const names = [...kept, join(parent, "elsewhere"), one.path].map((path) => path.slice(parent.length + 1));
    expect(readdirSync(parent).sort()).toEqual(names.sort());
    for (const name of ["elsewhere", "shrinker-open12"]) expect(existsSync(join(parent, name, "in"))).toBe(true);
  }));

test("of very many, some are removed each time", () =>
  inFolder(async (parent) => {
    for (let i = 0; i < 70; i++) left(parent, `shrinker-${String(i).padStart(6, "0")}`);
    await (await makeOwnFolder(parent))[Symbol.asyncDispose]();
    expect(readdirSync(parent)).toHaveLength(6);
  }));

test("a receiver that is killed leaves one, which the next removes", () =>
  inFolder(async (parent) => {
    const receive = ["receive", "--listen", "tcp://127.0.0.1:0", "--output", join(parent, "out"), "--vm", "web=fake:"];
    const options = { env: { XDG_RUNTIME_DIR: parent, XDG_STATE_HOME: join(parent, "state") } };
    const folders = () => readdirSync(parent).filter((name) => name.startsWith("shrinker-"));
    await using first = startCli(receive, options);
    await first.said(/listening/);
    const [before] = folders();
    first.kill("SIGKILL");
    await first.result;
    expect(folders()).toEqual([before!]);
    await using second = startCli(receive, options);
    await second.said(/listening/);
    const after = folders();
    expect(after).toHaveLength(1);
    expect(after).not.toEqual([before!]);
    second.kill("SIGTERM");
    await second.result;
    expect(folders()).toEqual([]);
  }));
