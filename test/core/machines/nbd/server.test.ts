import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { CancelledError } from "../../../../core/errors.ts";
import { KILL_MS, type NbdServer, START_MS, STATUS_MS, startServer } from "../../../../core/machines/nbd/server.ts";
import { isRunning, writeNbdProgram } from "../../../support/nbd-program.ts";
import { within } from "../../../support/session.ts";
import { folder } from "../image/files.ts";
import { failure } from "./connect.ts";

let dir: ReturnType<typeof folder>;
beforeEach(() => {
  dir = folder();
});
afterEach(() => dir.remove());
const at = (name: string) => join(dir.path, name);

/** Starts a script of the shell in the place of qemu-nbd; the script has to leave its pid behind. */
const script = (text: string, options: { startMs?: number; signal?: AbortSignal } = {}) => {
  const { path: program } = writeNbdProgram(dir.path, `echo $$ >'${at("pid")}'; ${text}`);
  return startServer({ path: "/disk", program, ...options });
};
const scriptRuns = () => isRunning(Number(readFileSync(at("pid"), "utf8")));

async function stop({ socket, stop }: NbdServer): Promise<void> {
  socket.destroy();
  await within(stop());
}

describe("a server", () => {
  test("is started read-only on a socket in a folder of its own, which is soon gone, and is ended", async () => {
    writeFileSync(at("-disk"), "bytes");
    const program = writeNbdProgram(dir.path);
    const server = await startServer({ path: at("-disk"), program: program.path });
    const { socket, args, mode } = program.log();
    expect(args).toEqual(["--read-only", `--socket=${socket}`, "--", at("-disk")]);
    expect(mode).toBe(0o700);
    expect([existsSync(dirname(socket)), program.runs()]).toEqual([false, true]);
    await stop(server);
    expect(program.runs()).toBe(false);
    await stop(server);
  });

  test("is told the image's format where that is given", async () => {
    writeFileSync(at("disk"), "bytes");
    const program = writeNbdProgram(dir.path);
    await stop(await startServer({ path: at("disk"), program: program.path, imageFormat: "vmdk" }));
    expect(program.log().args).toContain("--format=vmdk");
  });

  test("that is not there is named with the remedy", async () => {
    const error = await failure(startServer({ path: "/disk", program: at("qemu-nbd") }));
    expect(error.code).toBe("input");
    expect(error.message).toBe(`Cannot read "/disk": ${at("qemu-nbd")} is not installed; install qemu-utils`);
  });

  test("that can't be run says why", async () => {
    const { path } = writeNbdProgram(dir.path);
    chmodSync(path, 0o644);
    const error = await failure(startServer({ path: "/disk", program: path }));
    expect(error.message).toContain(`Cannot read "/disk": ${path} cannot be run: `);
  });

  test.each([
    ["its words, on one line", "echo 'qemu-nbd: one' >&2; echo 'two  ' >&2; exit 1", "one; two"],
    ["some of its words", "yes word | head -c 1000000 >&2; exit 1", "word; word; "],
    ["its status, where it says nothing", "exit 7", "qemu-nbd ended with status 7"],
    ["its signal", "kill -9 $$", "qemu-nbd ended with signal SIGKILL"],
  ])("that ends at once is told by %s", async (_, text, message) => {
    const error = await failure(within(script(text)));
    expect(error.code).toBe("input");
    expect(error.message).toContain(message);
    expect(error.message.startsWith('Cannot read "/disk": ')).toBe(true);
    // 2000 characters of what it said, of which each line's end has become two.
    expect(error.message.length).toBeLessThanOrEqual(2421);
  });

  test("has the times that docs/limits.md says", () => {
    expect([START_MS, STATUS_MS, KILL_MS]).toEqual([30_000, 500, 2000]);
  });

  test("that does not listen in time is ended, if need be by force", async () => {
    const error = await failure(within(script("trap '' TERM; exec sleep 60", { startMs: 1500 })));
    expect(error.message).toContain("has not opened it within 1.5 s");
    expect(scriptRuns()).toBe(false);
  }, 15_000);

  test("is ended when its start is aborted", async () => {
    const abort = new AbortController();
    const error = failure(within(script("exec sleep 60", { signal: abort.signal })));
    while (!existsSync(at("pid"))) await new Promise((resolve) => setTimeout(resolve, 5));
    abort.abort(new CancelledError("by hand"));
    expect((await error).message).toBe("by hand");
    expect(scriptRuns()).toBe(false);
  });

  test("has no socket where the folder's path is too long for one", async () => {
    const before = process.env.TMPDIR;
    process.env.TMPDIR = at("long".repeat(30));
    mkdirSync(process.env.TMPDIR);
    try {
      const { path: program } = writeNbdProgram(dir.path);
      const error = await failure(startServer({ path: "/disk", program }));
      expect([error.code, error.message.includes("set TMPDIR to a shorter one")]).toEqual(["input", true]);
      for (const [length, fits] of [
        [80, true],
        [81, false],
      ] as const) {
        process.env.TMPDIR = at("x".repeat(length - at("x").length + 1));
        expect(process.env.TMPDIR.length).toBe(length);
        mkdirSync(process.env.TMPDIR);
        const starting = startServer({ path: "/disk", program: at("none") });
        expect((await failure(starting)).message.includes("TMPDIR")).toBe(!fits);
      }
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    }
  });
});
