// The process that is QEMU's client beyond the receiver's end.
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { START_MS, startKeeper } from "../../cli/keeping.ts";
import { Journal } from "../../core/handover/journal.ts";
import { QmpClient } from "../../core/machines/qemu/qmp.ts";
import { failure } from "../core/machines/nbd/connect.ts";
import { leftOf } from "../support/live/processes.ts";
import { startQmpServer } from "../support/qmp-server.ts";

test("serves the connection until the migration has ended, or says why it can't", async () => {
  const state = mkdtempSync(join(tmpdir(), "keeping-"));
  await using server = await startQmpServer({ commands: { "query-name": {}, "query-migrate": { status: "active" } } });
  const entry = {
    role: "destination",
    phase: "prepared",
    name: "web",
    qmp: server.path,
    socket: "",
    runs: true,
  } as const;
  const journal = await Journal.create(state, { id: "0f".repeat(16), ...entry });
  try {
    await journal.update({ keeper: journal.keeperPath });
    const error = await failure(startKeeper(`${server.path}.none`, journal));
    expect(error.message).toContain("there is no socket");
    expect(START_MS).toBe(15_000);
    const late = await failure(startKeeper(server.path, journal, 1));
    expect([late.code, late.message]).toEqual(["input", expect.stringContaining("it is not ready within 0.001 s")]);
    expect(await leftOf(state, 5000)).toEqual([]);
    await startKeeper(server.path, journal);
    const qmp = await QmpClient.connect(journal.keeperPath, { signal: new AbortController().signal });
    expect(await qmp.execute("query-name")).toEqual({});
    expect(await leftOf(state, 0)).toHaveLength(1);
    await journal.remove();
    await qmp.close();
    expect([await leftOf(state, 5000), existsSync(journal.keeperPath)]).toEqual([[], false]);
  } finally {
    await journal.release();
    rmSync(state, { recursive: true, force: true });
  }
});
