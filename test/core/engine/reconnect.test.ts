import { expect, test } from "bun:test";
import { reconnect } from "../../../core/engine/reconnect.ts";
import { abortReason, CancelledError, LinkError } from "../../../core/errors.ts";
import type { Connection } from "../../../core/transport/transport.ts";

/** Attempts that fail at once or never answer, until there were so many. @returns when each began and how it failed */
async function attempts(most: number, backOff: readonly number[], answers: boolean) {
  const controller = new AbortController();
  const begun: number[] = [];
  const failures: unknown[] = [];
  const redial = async (signal: AbortSignal): Promise<Connection> => {
    begun.push(performance.now());
    if (begun.length === most) controller.abort(new CancelledError("enough"));
    if (answers) throw new LinkError("nobody");
    await new Promise((resolve) => {
      if (signal.aborted) resolve(undefined);
      signal.addEventListener("abort", resolve);
    });
    failures.push(abortReason(signal));
    throw abortReason(signal);
  };
  const outage = { since: performance.now(), spent: 0, reason: new Error("cut"), attempts: 0 };
  const ticket = { session: Buffer.alloc(16), secret: Buffer.alloc(16) };
  const options = { redial, ticket, received: 0, outage, attemptMs: 20, backOff, signal: controller.signal };
  await expect(reconnect(options)).rejects.toThrow();
  return { begun, failures };
}

test("attempts begin after the times that are given, of which the last stands for all that follow, a quarter more or less", async () => {
  const { begun } = await attempts(8, [0, 10, 30], true);
  const waits = begun.slice(1).map((time, i) => time - begun[i]!);
  // A timer may fire a little early.
  expect(waits[0]).toBeGreaterThan(6);
  for (const wait of waits.slice(1)) expect(wait).toBeGreaterThan(21);
});

test("an attempt ends when its time is over, and the next one begins", async () => {
  const { begun, failures } = await attempts(3, [0], false);
  expect(begun).toHaveLength(3);
  for (const failure of failures.slice(0, 2)) expect(failure).toBeInstanceOf(LinkError);
  expect(String(failures[0])).toContain("did not answer within");
});
