// The process that outlives the one that moves guests: that one is killed, and the guest goes on.
import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Journal, listJournals } from "../../../core/handover/journal.ts";
import { GUARDING, guard } from "../../../core/handover/source/guardian.ts";
import { scriptCommand } from "../../../core/runtime.ts";
import { within } from "../../support/session.ts";
import { ends } from "./ends.ts";
import { ID, stage } from "./staged.ts";

const phases = async (state: string) => (await listJournals(state)).map(({ phase }) => phase);

test("has a guest go on whose mover was killed, whatever it was about to do", async () => {
  await using pair = await ends();
  const { source } = await stage(pair, "begun, sent", "loaded");
  const mover = join(import.meta.dirname, "mover.ts");
  const [program, ...first] = scriptCommand;
  const child = spawn(program, [...first, mover, pair.a, ID], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  try {
    await within(once(child.stdout, "data"), "mover");
    expect<string>(source.runState).toBe("postmigrate");
    process.kill(child.pid!, "SIGKILL");
    const goesOn = async () => {
      while (source.runState !== "running" || (await phases(pair.a))[0] !== "aborted")
        await new Promise((resolve) => setTimeout(resolve, 10));
    };
    await within(goesOn(), "guardian");
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
  expect(pair.violations).toEqual([]);
});

test("leaves what was given away, and waits for whoever still works on it", async () => {
  await using given = await ends();
  const staged = await stage(given, "given", "loaded");
  await guard(given.a, [ID, "00".repeat(16)]);
  expect<unknown[]>([staged.source.runState, await phases(given.a)]).toEqual(["postmigrate", ["given"]]);

  await using busy = await ends();
  const { source } = await stage(busy, "begun, sent", "loaded");
  const journal = await Journal.resume(busy.a, { role: "source", id: ID });
  const guarding = guard(busy.a, [ID]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect<string>(source.runState).toBe("postmigrate");
  await journal!.release();
  await within(guarding, "guardian");
  expect<string>(source.runState).toBe("running");
});

test("tries 120 times in two minutes, and leaves the rest to the next run", async () => {
  const { tries, retryMs, maxRetryMs } = GUARDING;
  const waits = Array.from({ length: tries }, (_, i) => Math.min(retryMs * (i + 1), maxRetryMs));
  expect([tries, Math.round(waits.reduce((sum, ms) => sum + ms) / 60_000)]).toEqual([120, 2]);

  await using busy = await ends();
  const { source } = await stage(busy, "begun, sent", "loaded");
  const journal = await Journal.resume(busy.a, { role: "source", id: ID });
  await within(guard(busy.a, [ID], { tries: 3, retryMs: 1, maxRetryMs: 2 }), "guardian", 2000);
  await journal!.release();
  expect<unknown[]>([source.runState, await phases(busy.a)]).toEqual(["postmigrate", ["begun"]]);
});
