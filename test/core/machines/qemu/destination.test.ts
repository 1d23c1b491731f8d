import { describe, expect, test } from "bun:test";
import { CancelledError } from "../../../../core/errors.ts";
import { PAUSE_MS, QemuDestination } from "../../../../core/machines/qemu/destination.ts";
import { END, Refusal } from "../../../support/qmp-server.ts";
import { within } from "../../../support/session.ts";
import { failure } from "../nbd/connect.ts";
import { never, openPair } from "./connect.ts";
import { type FakeQemuOptions, fakeQemu } from "./fake-qemu.ts";

/** A destination on a QEMU that behaves like this. */
async function open(options: FakeQemuOptions = {}, version: readonly [number, number, number] = [10, 0, 2]) {
  const machine = fakeQemu({ state: "inmigrate", ...options });
  const pair = await openPair(machine.commands, { version });
  const destination = new QemuDestination(pair.qmp);
  return { ...pair, machine, destination, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
}

describe("a destination", () => {
  test("is made never to start by itself, and like its source", async () => {
    await using it = await open();
    await it.destination.prepare({ postcopy: true });
    expect(it.server.orders[0]).toBe("stop");
    expect(it.machine.capabilities).toMatchObject({ "return-path": true, multifd: false, "postcopy-ram": true });
    expect(it.machine.parameters["tls-creds"]).toBe("");
  });

  test.each([
    ["has a guest", { state: "running" }, "it is running; start it with -incoming defer"],
    ["takes one in", { migration: "setup" }, "has been given a guest before (its migration is setup)"],
    ["failed to", { migration: "failed" }, "start another one"],
  ])("that %s can't be one", async (_, options, message) => {
    await using it = await open(options);
    const error = await failure(it.destination.prepare());
    expect(error.code).toBe("input");
    expect(error.message).toContain(message);
    expect(it.server.orders).toEqual([]);
  });

  test.each([
    [[10, 0, 0], { uri: "unix:a", "exit-on-error": false }],
    [[9, 1, 0], { uri: "unix:a", "exit-on-error": false }],
    [[9, 0, 9], { uri: "unix:a" }],
  ] as const)("of QEMU %j stays to say why, if it can", async (version, args) => {
    await using it = await open({}, version);
    await it.destination.incoming("unix:a");
    expect(it.server.requests.at(-1)!.args).toEqual(args);
  });

  test.each(["completed", "postcopy-active"])("that is %s is loaded once its guest is there", async (migration) => {
    await using it = await open({ migration });
    const loaded = it.destination.loaded(never);
    let done = false;
    void loaded.then(() => {
      done = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(done).toBe(false);
    it.machine.state = "paused";
    expect((await within(loaded)).status).toBe(migration);
    await it.destination.run();
    expect(it.machine.state).toBe("running");
  });

  test("that fails says why", async () => {
    await using it = await open({ migration: "active" });
    const loaded = failure(it.destination.loaded(never));
    Object.assign(it.machine, { migration: "failed", error: "Missing section footer" });
    expect((await within(loaded)).message).toContain("Missing section footer");
  });

  test("is waited for until that is aborted", async () => {
    const abort = new AbortController();
    for (const migration of ["active", "completed"]) {
      await using it = await open({ migration });
      const loaded = failure(it.destination.loaded(abort.signal));
      setTimeout(() => abort.abort(new CancelledError("by hand")), 40);
      expect((await within(loaded)).message).toBe("by hand");
    }
  });

  test("that runs its guest already is an error", async () => {
    await using it = await open({ migration: "completed", state: "running" });
    expect((await failure(it.destination.loaded(never))).message).toContain("runs its guest already");
  });

  test("never gets leave to run a guest that isn't loaded", async () => {
    await using it = await open({ migration: "active" });
    expect((await failure(it.destination.run())).message).toContain("not loaded yet");
    expect(it.server.orders).toEqual([]);
  });

  test("gets 10 s to leave a stream that has broken", async () => {
    expect(PAUSE_MS).toBe(10_000);
    await using it = await open();
    it.server.commands["migrate-recover"] = () => {
      throw new Refusal("not now");
    };
    const begun = performance.now();
    const error = await within(failure(it.destination.recover("unix:b", never, 500)), "recovery", 5000);
    expect(error.message).toContain("not now");
    expect(performance.now() - begun).toBeGreaterThanOrEqual(500);
    const asked = it.server.requests.map(({ command }) => command);
    expect(asked.filter((command) => command === "migrate-pause").length).toBeGreaterThan(1);
  });

  test("is discarded, and recovers out of band", async () => {
    await using it = await open();
    await it.destination.recover("unix:b");
    expect(it.server.requests.at(-1)).toMatchObject({ args: { uri: "unix:b" }, outOfBand: true });
    it.server.commands.quit = END;
    await within(it.destination.discard());
    await within(it.qmp.closed);
  });
});
