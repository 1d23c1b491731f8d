import { describe, expect, test } from "bun:test";
import { CancelledError, LinkError, ProtocolError } from "../../../../core/errors.ts";
import { migrationStatus, waitForStatus } from "../../../../core/machines/qemu/status.ts";
import { SILENCE } from "../../../support/qmp-server.ts";
import { within } from "../../../support/session.ts";
import { failure } from "../nbd/connect.ts";
import { never, openPair } from "./connect.ts";

const options = { signal: never };

/** A QEMU whose migration has these statuses, one after another at each question; then the last. */
function passing(...statuses: (string | object)[]) {
  const left = [...statuses];
  const reply = () => {
    const status = left.length > 1 ? left.shift() : left[0];
    return typeof status === "string" ? { status } : status;
  };
  return openPair({ "query-migrate": reply });
}

describe("a migration's status", () => {
  test("has QEMU's numbers", async () => {
    const ram = {
      ...{ transferred: 1, remaining: 2, total: 3, normal: 4, duplicate: 5, "dirty-pages-rate": 6, "page-size": 4096 },
      ...{ "dirty-sync-count": 7, mbps: 8.5, "pages-per-second": 9, "of-the-future": {} },
    };
    const times = { downtime: 10, "expected-downtime": 11, "total-time": 12, "setup-time": 13 };
    await using pair = await passing({ status: "failed", ram, ...times, "error-desc": "no\nroom" });
    expect(await migrationStatus(pair.qmp)).toEqual({
      status: "failed",
      ram: {
        ...{ transferred: 1, remaining: 2, total: 3, normalPages: 4, duplicatePages: 5, dirtyPagesRate: 6 },
        ...{ pageSize: 4096, iterations: 7, mbps: 8.5, pagesPerSecond: 9 },
      },
      ...{ downtimeMs: 10, expectedDowntimeMs: 11, totalMs: 12, setupMs: 13 },
      error: "no room",
    });
  });

  test("is none before, and nothing else where the reply is strange", async () => {
    await using pair = await passing({}, { status: 1 }, { status: "active", ram: { transferred: "1" } });
    expect(await migrationStatus(pair.qmp)).toEqual({ status: "none" });
    expect(await failure(migrationStatus(pair.qmp))).toBeInstanceOf(ProtocolError);
    expect((await failure(migrationStatus(pair.qmp))).message).toContain("ram.transferred");
  });
});

describe("waiting for a status", () => {
  test("ends with the first that is wanted, all on the way being told", async () => {
    await using pair = await passing("setup", "active", "pre-switchover");
    const seen: string[] = [];
    const onStatus = ({ status }: { status: string }) => seen.push(status);
    const { status } = await waitForStatus(pair.qmp, ["completed", "pre-switchover"], { ...options, onStatus });
    expect(status).toBe("pre-switchover");
    expect(seen).toEqual(["setup", "active", "pre-switchover"]);
  });

  test("is hastened by events, and ends also with one that has passed", async () => {
    const took: number[] = [];
    for (let i = 0; i < 4; i++) {
      await using pair = await passing("setup", "completed");
      const done = waitForStatus(pair.qmp, ["active"], options);
      const start = performance.now();
      pair.server.event("MIGRATION", { status: "active" });
      expect((await done).status).toBe("completed");
      took.push(performance.now() - start);
    }
    // Without the event it would ask again after 100 ms.
    expect(Math.min(...took)).toBeLessThan(80);
  });

  test.each([
    ["it fails", { status: "failed", "error-desc": "no room" }, "has failed: no room"],
    ["it fails without a reason", { status: "failed" }, "QEMU gives no reason"],
    ["it is cancelled", { status: "cancelled" }, "was cancelled"],
    ["it completes", { status: "completed" }, "has completed, without being active"],
  ])("ends where %s instead", async (_, status, message) => {
    await using pair = await passing("setup", status);
    const error = await within(failure(waitForStatus(pair.qmp, ["active"], options)));
    expect(error.code).toBe("input");
    expect(error.message).toContain(message);
    expect((await waitForStatus(pair.qmp, [status.status], options)).status).toBe(status.status);
  });

  test("ends when the time is over, also where QEMU doesn't answer", async () => {
    await using pair = await passing("active");
    for (const _ of [1, 2]) {
      const error = await within(failure(waitForStatus(pair.qmp, ["completed"], { ...options, timeout: 150 })));
      expect(error).toBeInstanceOf(LinkError);
      expect(error.message).toContain("is not completed within 0.15 s");
      pair.server.commands["query-migrate"] = SILENCE;
    }
  });

  test("ends at once when it is aborted, or the connection is lost", async () => {
    await using pair = await openPair({ "query-migrate": SILENCE });
    const abort = new AbortController();
    const waits = [abort.signal, never].map((signal) => failure(waitForStatus(pair.qmp, ["completed"], { signal })));
    abort.abort(new CancelledError("by hand"));
    expect((await within(waits[0]!)).message).toBe("by hand");
    pair.server.drop();
    expect(await within(waits[1]!)).toBeInstanceOf(LinkError);
    expect((await failure(waitForStatus(pair.qmp, ["completed"], { signal: abort.signal }))).message).toBe("by hand");
  });
});
