// A store whose disk is full, that can't be written to, or that somebody else writes to, as the command meets it.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CliResult, COMMAND, cli, startCli } from "../support/cli.ts";
import { Image, mustRun, randomFrom, SEED } from "./killing.ts";
import { canMount, mountReadOnly, mountSmall } from "./mounts.ts";

const PAGE = 4096;
const MIB = 2 ** 20;
const LIMIT = 60_000;

let folder: string;
let image: Image;
const path = (...names: string[]) => join(folder, ...names);

beforeEach(() => {
  console.log(`CRASH_SEED=${SEED}`);
  folder = mkdtempSync(join(tmpdir(), "shrinker-faults-"));
  image = new Image(randomFrom(SEED), (4 * MIB) / PAGE);
  writeFileSync(path("small"), image.bytes);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const snapshot = (store: string, name: string, machine = "small") =>
  cli(["snapshot", `machine=${path(machine)}`, "--store", store, "--name", name, "--quiet"]);

/** Whether a snapshot comes back as the small image. */
async function comesBack(store: string, name: string): Promise<boolean> {
  await mustRun(["restore", name, "--store", store, "--output", path("restored"), "--force", "--quiet"]);
  return Buffer.compare(readFileSync(path("restored", "machine")), image.bytes) === 0;
}

const verify = (store: string) => mustRun(["verify", "--read-data", "--store", store, "--quiet"]);

/** Files of a store, but for its locks. */
function filesOf(store: string): string[] {
  const names = readdirSync(store, { recursive: true }) as string[];
  return names.filter((name) => /\.\w+$/.test(name)).sort();
}

/** Bytes of a store's packs. */
function bytesOf(store: string): number {
  const packs = filesOf(store).filter((name) => name.endsWith(".pack"));
  return packs.reduce((sum, name) => sum + statSync(join(store, name)).size, 0);
}

describe.skipIf(!canMount)(`a disk that is full${canMount ? "" : " (skipped: nothing can be mounted here)"}`, () => {
  test(
    "ends a snapshot with exit code 8; what was there stays, and the next one works",
    async () => {
      await using disk = await mountSmall(path("disk"), 24 * MIB);
      const store = join(disk.path, "store");
      expect((await snapshot(store, "first")).code).toBe(0);
      const [before, bytes] = [filesOf(store), bytesOf(store)];
      // It can't fit, wherever it stops: with its contents, or with what names them.
      const large = new Image(randomFrom(SEED + 1), (40 * MIB) / PAGE);
      writeFileSync(path("large"), large.bytes);
      for (const name of ["second", "third"]) {
        const { code, stderr } = await snapshot(store, name, "large");
        expect([code, stderr]).toEqual([8, expect.stringContaining("no space left")]);
        expect(stderr.split("\n").length).toBe(2);
        expect(await comesBack(store, "first")).toBe(true);
      }
      // What the failed ones brought would only be in the way.
      expect([filesOf(store), bytesOf(store)]).toEqual([before, bytes]);
      await verify(store);
      expect((await snapshot(store, "fourth")).code).toBe(0);
      expect(await comesBack(store, "fourth")).toBe(true);
      // The fourth has no content that the first one has not.
      expect(filesOf(store).length).toBe(before.length + 1);
    },
    LIMIT,
  );

  test(
    "ends at any other moment as well: with the index, or the manifest",
    async () => {
      await using disk = await mountSmall(path("disk"), 9 * MIB);
      const store = join(disk.path, "store");
      expect((await snapshot(store, "first")).code).toBe(0);
      const filler = join(disk.path, "filler");
      const other = new Image(randomFrom(SEED + 2), MIB / PAGE);
      writeFileSync(path("other"), other.bytes);
      const codes: (number | null)[] = [];
      // From far too little to enough.
      for (let left = 0; left <= 2.6 * MIB; left += 200_000) {
        writeFileSync(filler, "");
        const room = freeBytes(disk.path) - left;
        if (room > 0) writeFileSync(filler, Buffer.alloc(room));
        const { code, stderr } = await snapshot(store, `with ${left}`, "other");
        if (code !== 0) expect([code, stderr]).toEqual([8, expect.stringContaining("no space left")]);
        codes.push(code);
        rmSync(filler);
        expect(await comesBack(store, "first")).toBe(true);
        if (code === 0) break;
      }
      expect([codes[0], codes.at(-1)]).toEqual([8, 0]);
      await verify(store);
      expect(filesOf(store).filter((file) => /new$|partial$/.test(file))).toEqual([]);
    },
    LIMIT,
  );

  test(
    "ends a migration to it with exit code 8 at both ends, and what has landed stays",
    async () => {
      await using disk = await mountSmall(path("disk"), 12 * MIB);
      const store = join(disk.path, "store");
      expect((await snapshot(store, "first")).code).toBe(0);
      writeFileSync(path("large"), new Image(randomFrom(SEED + 1), (24 * MIB) / PAGE).bytes);
      const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--output", path("arrived"), "--store", store];
      await using daemon = startCli([...listen, "--no-state"]);
      const [, address] = await daemon.said(/listening on (\S+)/);
      const { code, stderr } = await cli(["migrate", path("large"), "--to", address!, "--no-state"]);
      expect([code, stderr]).toEqual([8, expect.stringContaining("no space left")]);
      // It tells the source first, and itself when it has removed what was begun.
      await daemon.said(/no space left/);
      expect(readdirSync(path("arrived"))).toEqual([]);
      // It serves the next one, for which there is room.
      await mustRun(["migrate", path("small"), "--to", address!, "--no-state", "--quiet"]);
      expect(Buffer.compare(readFileSync(path("arrived", "small")), image.bytes)).toBe(0);
      expect(await comesBack(store, "first")).toBe(true);
    },
    LIMIT,
  );
});

/** What a file system has left. */
function freeBytes(at: string): number {
  const { bavail, bsize } = statfsSync(at);
  return bavail * bsize;
}

describe.skipIf(!canMount)(
  `a store on a read-only disk${canMount ? "" : " (skipped: nothing can be mounted here)"}`,
  () => {
    test(
      "is restored from, listed and verified; whoever writes is told",
      async () => {
        expect((await snapshot(path("store"), "first")).code).toBe(0);
        await using mounted = await mountReadOnly(path("mounted"), path("store"));
        expect(() => writeFileSync(join(mounted.path, "x"), "")).toThrow();
        expect(await comesBack(mounted.path, "first")).toBe(true);
        await mustRun(["restore", "first", "--store", mounted.path, "--dry-run", "--quiet"]);
        expect((await mustRun(["list", "--store", mounted.path])).stdout.toString()).toContain("first");
        await verify(mounted.path);
        for (const command of [["snapshot", path("small"), "--name", "second"], ["prune"]]) {
          const { code, stderr } = await cli([...command, "--store", mounted.path, "--quiet"]);
          expect([code, stderr]).toEqual([3, expect.stringContaining("read-only")]);
        }
      },
      LIMIT,
    );
  },
);

describe("two that write to a store", () => {
  const refused = (result: CliResult, what: string) =>
    expect([result.code, result.stderr]).toEqual([4, expect.stringContaining(what)]);

  test(
    "come one after the other: the second is refused, and says why",
    async () => {
      const store = path("store");
      expect((await snapshot(store, "first")).code).toBe(0);
      // It waits for its machine, with the store open.
      const options = ["--store", store, "--name", "slow", "--format", "raw", "--json"];
      const [program, ...args] = [...COMMAND, "snapshot", "machine=-", ...options] as [string, ...string[]];
      const writer = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"], timeout: LIMIT / 2 });
      const ended = once(writer, "exit");
      let said = "";
      const opened = new Promise<void>((resolve) => {
        writer.stdout.setEncoding("utf8").on("data", (text) => {
          said += text;
          if (said.includes('"opened"')) resolve();
        });
      });
      await Promise.race([opened, ended]);
      refused(await snapshot(store, "second"), `Another shrinker writes to the store "${store}"`);
      refused(await cli(["prune", "--store", store]), `Another shrinker writes to the store "${store}"`);
      // Reading goes on.
      expect(await comesBack(store, "first")).toBe(true);
      await verify(store);
      writer.stdin.end(image.bytes);
      expect((await ended)[0]).toBe(0);
      expect(await comesBack(store, "slow")).toBe(true);
      expect((await snapshot(store, "second")).code).toBe(0);
      expect(await comesBack(store, "second")).toBe(true);
    },
    LIMIT,
  );
});
