import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dial, errorOf, inFolder, listen, readAll, until } from "./helpers.ts";

const quiet = "exec 2>/dev/null;";

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A process that nobody has waited for yet is dead all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

describe("exec", () => {
  test("a command's stdio is the connection", async () => {
    const connection = await dial("exec:tr a-z A-Z");
    await connection.write([Buffer.from("hel"), Buffer.from("lo")]);
    await connection.end();
    expect((await readAll(connection.input)).toString()).toBe("HELLO");
    await connection.destroy();
  });

  test.each([
    ["no-such-command-at-all", /status 127 \(command not found/],
    ["exit 255", /status 255 \(ssh uses it/],
    ["printf partial; exit 3", /status 3$/],
    ["kill -KILL $$", /signal SIGKILL/],
  ])("`%s` fails with its status", async (command, message) => {
    const connection = await dial(`exec:${quiet} ${command}`);
    const error = await errorOf(readAll(connection.input));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(message);
    await connection.destroy();
  });

  test("what it had written comes before its failure", async () => {
    const connection = await dial("exec:printf partial; exit 3");
    const iterator = connection.input[Symbol.asyncIterator]();
    expect(Buffer.from((await iterator.next()).value).toString()).toBe("partial");
    expect((await errorOf(iterator.next())).message).toMatch(/status 3/);
    await connection.destroy();
  });

  test("a write to a command that has ended quotes the status", async () => {
    const connection = await dial("exec:exec <&-; sleep 0.05; exit 9");
    const error = await errorOf(
      (async () => {
        for (;;) await connection.write([Buffer.alloc(100_000)]);
      })(),
    );
    expect(error.message).toMatch(/status 9/);
    await connection.destroy();
  });

  test(
    "destroy ends the command and its processes, stubborn ones too",
    () =>
      inFolder(async (folder) => {
        const pids = `${folder}/pids`;
        // Both ignore their closed pipes; one ignores SIGTERM as well.
        const connection = await dial(
          `exec:(trap '' TERM; echo $$ >> ${pids}; while :; do sleep 0.05; done) & sleep 60 & echo $! >> ${pids}; trap '' TERM; wait; while :; do sleep 0.05; done`,
        );
        await until(() => existsSync(pids) && readFileSync(pids, "latin1").trim().split("\n").length === 2);
        const running = readFileSync(pids, "latin1").trim().split("\n").map(Number);
        expect(running.every(lives)).toBe(true);
        const start = performance.now();
        await connection.destroy();
        expect(performance.now() - start).toBeGreaterThan(1500);
        await until(() => !running.some(lives));
      }),
    15_000,
  );

  test("a command that ends by itself is not waited for", async () => {
    const took: number[] = [];
    for (let i = 0; i < 4; i++) {
      const connection = await dial("exec:cat");
      const start = performance.now();
      await connection.end();
      await readAll(connection.input);
      await connection.destroy();
      took.push(performance.now() - start);
    }
    // A command that goes on has 500 ms to say its status.
    expect(Math.min(...took)).toBeLessThan(450);
  });

  test("nothing can be listened to", async () => {
    const error = await errorOf(listen("exec:cat"));
    expect(error).toHaveProperty("code", "usage");
    expect(error.message).toMatch(/receive --stdio/);
    expect(await errorOf(dial("exec: "))).toHaveProperty("code", "usage");
  });
});
