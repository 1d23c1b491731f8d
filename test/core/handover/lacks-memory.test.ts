import { expect, test } from "bun:test";
import { lacksMemory } from "../../../core/handover/destination/lacks-memory.ts";
import { SILENCE } from "../../support/qmp-server.ts";
import { within } from "../../support/session.ts";
import { openPair } from "../machines/qemu/connect.ts";

test("a QEMU that does not say within 1 s how far its post-copy is waits for a page itself", async () => {
  await using pair = await openPair({ "query-migrate": SILENCE });
  const begun = performance.now();
  expect(await within(lacksMemory(pair.qmp), "question", 4000)).toBe(true);
  expect(performance.now() - begun).toBeGreaterThan(950);
  expect(performance.now() - begun).toBeLessThan(3000);
});

test("one that says so is believed", async () => {
  for (const [status, lacks] of [
    ["postcopy-active", true],
    ["completed", false],
  ] as const) {
    await using pair = await openPair({ "query-migrate": { status } });
    expect(await lacksMemory(pair.qmp)).toBe(lacks);
  }
});
