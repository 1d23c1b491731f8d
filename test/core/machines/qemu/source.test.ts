import { describe, expect, test } from "bun:test";
import { LinkError } from "../../../../core/errors.ts";
import { QmpError } from "../../../../core/machines/qemu/qmp.ts";
import { QemuSource } from "../../../../core/machines/qemu/source.ts";
import { END, Refusal, type Reply } from "../../../support/qmp-server.ts";
import { within } from "../../../support/session.ts";
import { failure } from "../nbd/connect.ts";
import { never, openPair } from "./connect.ts";
import { type FakeQemuOptions, fakeQemu } from "./fake-qemu.ts";

/** A source on a QEMU that behaves like this. */
async function open(options: FakeQemuOptions = {}, more: Record<string, Reply> = {}) {
  const machine = fakeQemu(options);
  const pair = await openPair({ ...machine.commands, ...more });
  const source = new QemuSource(pair.qmp);
  return { ...pair, machine, source, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
}

describe("a source", () => {
  test("is made fit for this tool, with what its QEMU has, and put back", async () => {
    await using it = await open();
    const { machine, source } = it;
    const before = { ...machine.capabilities };
    const saved = await source.prepare({ bandwidth: 1000, downtimeLimitMs: 50, postcopy: true });
    const capabilities = { events: true, xbzrle: false, multifd: false, "return-path": true, "postcopy-ram": true };
    expect(machine.capabilities).toEqual(capabilities);
    const parameters = {
      "max-bandwidth": 1000,
      "downtime-limit": 50,
      "tls-creds": "",
      "avail-switchover-bandwidth": 0,
    };
    expect(machine.parameters).toMatchObject(parameters);
    await source.restore(saved);
    expect(machine.capabilities).toEqual(before);
    expect(machine.parameters).toMatchObject({ "downtime-limit": 300, "tls-creds": "creds0" });
  });

  test("pauses before the switchover, converges by itself and limits rate or downtime only as asked", async () => {
    await using it = await open({ parameters: { "downtime-limit": 123 } });
    Object.assign(it.machine.capabilities, { "pause-before-switchover": false, "auto-converge": false });
    await it.source.prepare();
    expect(it.machine.capabilities).toMatchObject({ "pause-before-switchover": true, "auto-converge": false });
    expect(it.machine.parameters["downtime-limit"]).toBe(123);
    expect(it.machine.parameters["max-bandwidth"]).toBeGreaterThan(2 ** 39);
    await it.source.prepare({ autoConverge: true, pauseBeforeSwitchover: false });
    expect(it.machine.capabilities).toMatchObject({ "pause-before-switchover": false, "auto-converge": true });
  });

  test("is told the switchover's rate, if its QEMU takes that", async () => {
    await using it = await open();
    expect(await it.source.setSwitchoverBandwidth(1234.5)).toBe(true);
    expect(it.machine.parameters["avail-switchover-bandwidth"]).toBe(1234);
    delete it.machine.parameters["avail-switchover-bandwidth"];
    expect(await it.source.setSwitchoverBandwidth(1)).toBe(false);
    it.server.commands["migrate-set-parameters"] = () => {
      throw new Refusal("not now");
    };
    expect(await failure(it.source.setSwitchoverBandwidth(1))).toBeInstanceOf(QmpError);
  });

  test("does what it is told", async () => {
    await using it = await open();
    const { source } = it;
    await source.start("unix:a");
    expect(source.guestRan).toBe(true);
    await source.continueSwitchover();
    await source.startPostcopy();
    await source.pausePostcopy();
    await source.recover("unix:b");
    await source.stopGuest();
    expect(it.machine.state).toBe("paused");
    await source.start("unix:c");
    expect(source.guestRan).toBe(false);
    await source.resumeGuest();
    await source.resumeGuest();
    expect(it.machine.state).toBe("running");
    expect(
      it.server.requests.filter(({ command }) => it.server.orders.includes(command)).map(({ args }) => args),
    ).toEqual([
      { uri: "unix:a" },
      { state: "pre-switchover" },
      {},
      {},
      { uri: "unix:b", resume: true },
      {},
      { uri: "unix:c" },
      {},
    ]);
    expect(it.server.orders).toEqual([
      ...[
        "migrate",
        "migrate-continue",
        "migrate-start-postcopy",
        "migrate-pause",
        "migrate",
        "stop",
        "migrate",
        "cont",
      ],
    ]);
  });

  test("whose guest can't run says so", async () => {
    await using it = await open({ state: "shutdown" });
    expect((await failure(it.source.resumeGuest())).message).toContain("Resetting");
    it.server.commands.cont = {};
    const error = await failure(it.source.resumeGuest());
    expect(error.code).toBe("input");
    expect(error.message).toContain("it is shutdown");
    it.machine.state = "suspended";
    await it.source.resumeGuest();
    it.machine.state = "running";
    it.server.commands.stop = {};
    expect((await failure(it.source.stopGuest())).message).toContain("does not stop its guest");
  });

  test.each([
    ["a reply", {}],
    ["none", END],
  ])("quits, with %s before the end", async (_, reply) => {
    await using it = await open({}, { quit: reply });
    const done = it.source.quit();
    setTimeout(() => it.server.drop(), 20);
    await within(done);
    await it.source.quit();
    expect(await failure(it.qmp.execute("query-status"))).toBeInstanceOf(LinkError);
  });
});

describe("cancelling", () => {
  /** A migration that is cancelled a while after it is asked to be; QEMU lets its guest go, or leaves that to others. */
  const cancellable = (guest: "running" | "paused" | "finish-migrate"): FakeQemuOptions => ({
    state: "finish-migrate",
    migration: "pre-switchover",
    on: {
      migrate_cancel(machine) {
        machine.migration = "cancelling";
        setTimeout(() => {
          machine.migration = "cancelled";
          machine.state = guest;
          if (guest === "finish-migrate")
            setTimeout(() => {
              machine.state = "paused";
            }, 150);
        }, 30);
      },
    },
  });

  test.each([
    ["running", []],
    ["paused", ["cont"]],
    ["finish-migrate", ["cont"]],
  ] as const)("has the guest run, which QEMU leaves %s", async (guest, orders) => {
    await using it = await open(cancellable(guest));
    expect((await it.source.cancel({ signal: never })).status).toBe("cancelled");
    expect(it.machine.state).toBe("running");
    expect(it.server.orders).toEqual(["migrate_cancel", ...orders]);
  });

  test("leaves a guest stopped that was", async () => {
    await using it = await open(cancellable("paused"));
    it.source.guestRan = false;
    await it.source.cancel();
    expect(it.machine.state).toBe("paused");
  });

  test.each([
    ["none", "running"],
    ["failed", "running"],
    ["completed", "running"],
    ["cancelled", "running"],
  ])("does nothing to a migration that is %s, with the guest %s", async (migration, state) => {
    await using it = await open({ migration, state });
    expect((await it.source.cancel()).status).toBe(migration);
    expect(it.machine.state).toBe("running");
  });

  test("leaves a guest alone that has ended by itself", async () => {
    await using it = await open({ migration: "failed", state: "shutdown" });
    expect((await it.source.cancel()).status).toBe("failed");
    expect(it.server.orders).not.toContain("cont");
  });

  test.each([
    ["completed", "postmigrate"],
    ["postcopy-active", "finish-migrate"],
    ["postcopy-paused", "paused"],
  ])("is refused when the guest may run elsewhere: %s", async (migration, state) => {
    await using it = await open({ migration, state });
    expect(await failure(it.source.cancel())).toMatchObject({ code: "refused" });
    expect([it.machine.state, it.server.orders.includes("cont")]).toEqual([state, false]);
  });

  test("is refused where the migration completes meanwhile", async () => {
    const on = {
      migrate_cancel(machine: { migration: string; state: string }) {
        Object.assign(machine, { migration: "completed", state: "postmigrate" });
      },
    };
    await using it = await open({ migration: "device", state: "finish-migrate", on });
    expect(await failure(it.source.cancel())).toMatchObject({ code: "refused" });
    expect(it.machine.state).toBe("postmigrate");
  });

  test("that takes too long is given up, and the guest left alone", async () => {
    await using it = await open({ migration: "cancelling", state: "finish-migrate" });
    expect(await failure(it.source.cancel({ timeout: 50 }))).toBeInstanceOf(LinkError);
    expect(it.server.orders).toEqual(["migrate_cancel"]);
  });
});
