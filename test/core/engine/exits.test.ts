import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../support/run.ts";

test("sessions that are over keep neither timers nor handles, and leave no rejection unhandled", async () => {
  const program = join(import.meta.dirname, "exits.ts");
  const args = "Deno" in globalThis ? ["run", "-A", "--no-check", program] : [program];
  const { code, stdout, stderr } = await run(process.execPath, args, { seconds: 10 });
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "all over\n", stderr: "" });
}, 30_000);
