import { expect, test } from "bun:test";
import { reconnect } from "../../../core/engine/reconnect.ts";
import { refusal } from "../../../core/engine/told.ts";
import { abortReason, CancelledError, LinkError, ShrinkerError } from "../../../core/errors.ts";
import type { Connection } from "../../../core/transport/transport.ts";
import { memoryPair } from "../../../transports/memory.ts";

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

test("a peer that can't take it now is asked again, and one that doesn't want it is not", async () => {
  for (const [code, asked] of [
    ["link", 3],
    ["refused", 1],
  ] as const) {
    let dialled = 0;
    const controller = new AbortController();
    const redial = async (): Promise<Connection> => {
      const [near, far] = memoryPair();
      if (++dialled === 3) controller.abort(new CancelledError("enough"));
      await far.write([refusal(new ShrinkerError(code, "too many of late"))]);
      await far.end();
      return near;
    };
    const outage = { since: performance.now(), spent: 0, reason: new Error("cut"), attempts: 0 };
    const ticket = { session: Buffer.alloc(16), secret: Buffer.alloc(32) };
    const { signal } = controller;
    const error = await reconnect({ redial, ticket, received: 0, outage, attemptMs: 500, backOff: [0], signal }).catch(
      (thrown) => thrown,
    );
    expect([error.code, dialled]).toEqual([code === "link" ? "cancelled" : "refused", asked]);
    if (code === "link") expect(outage.reason.message).toBe("The other end can't take it now: too many of late");
  }
});
