import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError } from "../../../../core/errors.ts";
import { launch } from "../../../../core/machines/qemu/launch.ts";
import { isRunning } from "../../../support/nbd-program.ts";
import { within } from "../../../support/session.ts";
import { folder } from "../image/files.ts";
import { failure } from "../nbd/connect.ts";
import { never } from "./connect.ts";

let dir: ReturnType<typeof folder>;
beforeEach(() => {
  dir = folder();
});
afterEach(() => dir.remove());
const at = (name: string) => join(dir.path, name);

/** Launches a script of the shell in QEMU's place; it leaves its pid and its arguments behind. */
const script = (text: string, options: { timeout?: number; signal?: AbortSignal } = {}, how = "exec") => {
  writeFileSync(at("script"), `echo $$ >'${at("pid")}'; printf '%s\\n' "$@" >'${at("args")}'; ${text}`);
  return launch({ command: `${how} sh '${at("script")}' own`, socket: at("a,b"), signal: never, ...options });
};
/** A process that has ended stays in the list until its parent, which isn't this one, has taken note. */
const scriptRuns = () => {
  const pid = Number(readFileSync(at("pid"), "utf8"));
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return isRunning(pid);
  }
};

// With a QEMU that answers: test/e2e/qmp.test.ts.
describe("launching", () => {
  test.each([
    ["its last words", "seq 100000 >&2; echo 'qemu: no' >&2; exit 1", "; 100000; qemu: no"],
    ["its status, where it says nothing", "exit 7", "the command ended with status 7 and printed nothing"],
  ])("what ends at once is told by %s", async (_, text, message) => {
    const error = await within(failure(script(text)));
    expect(error.code).toBe("input");
    expect(error.message).toContain(`Cannot start QEMU: `);
    expect(error.message).toContain(message);
    expect(error.message.length).toBeLessThan(2200);
  });

  test("what is killed is told by its signal", async () => {
    const error = await within(failure(launch({ command: "kill -9 $$;", socket: at("s"), signal: never })));
    expect(error.message).toContain("the command ended with signal SIGKILL and printed nothing");
  });

  test("gives QEMU its arguments after the command's own", async () => {
    await failure(script("exit 1"));
    expect(readFileSync(at("args"), "utf8").split("\n").slice(0, -1)).toEqual([
      ...["own", "-S", "-incoming", "defer", "-qmp", `unix:${dir.path}/a,,b,server=on,wait=off`],
    ]);
  });

  test("what does not answer in time is ended, if need be by force, with what it has begun", async () => {
    const text = "trap '' TERM; echo busy >&2; sleep 60 & sleep 60";
    const error = await within(failure(script(text, { timeout: 1500 }, "nice")));
    expect(error.message).toContain("does not answer within 1.5 s: busy");
    expect(scriptRuns()).toBe(false);
  }, 15_000);

  test("is aborted, with all that it has begun", async () => {
    const abort = new AbortController();
    const error = failure(within(script("exec sleep 60", { signal: abort.signal })));
    while (!existsSync(at("args"))) await sleep(5);
    abort.abort(new CancelledError("by hand"));
    expect((await error).message).toBe("by hand");
    expect(scriptRuns()).toBe(false);
    expect((await failure(script("exit 1", { signal: abort.signal }))).message).toBe("by hand");
  });

  test("needs a command, and a socket's path that is new and fits", async () => {
    writeFileSync(at("taken"), "");
    const code = async (command: string, socket: string) => {
      const error = await failure(launch({ command, socket, signal: never }));
      return error.code;
    };
    expect(await code(" ", at("s"))).toBe("usage");
    expect(await code("true", at("taken"))).toBe("exists");
    expect(await code("true", at("x".repeat(100)))).toBe("usage");
  });
});
