// What the destination answers where a post-copy is to go on, and how it ends a QEMU that it can't speak to.
import { expect, test } from "bun:test";
import { ShrinkerError } from "../../../core/errors.ts";
import type { Arrival } from "../../../core/handover/destination/arrival.ts";
import { recover } from "../../../core/handover/destination/recover.ts";
import { endMachine } from "../../../core/handover/destination/waiting-machine.ts";
import { QmpClient, QmpError } from "../../../core/machines/qemu/qmp.ts";
import { startQmpServer } from "../../support/qmp-server.ts";
import { failure } from "../machines/nbd/connect.ts";

const never = new AbortController().signal;

/** A guest that runs here, as far as `recover` looks: whether it lacks memory, each time that it is asked, and what QEMU says. */
function arrival(lacks: (boolean | undefined)[], recovers: () => Promise<void>): Arrival {
  const qemu = { lacksMemory: async () => lacks.shift(), machine: { recover: recovers } };
  const sockets = { next: async () => "unix:/in-1" };
  return {
    ...{ name: "web", state: "running", context: { signal: never }, qemu, sockets },
    inTurn: (work: () => unknown) => work(),
  } as never;
}
const refuse = () => Promise.reject(new QmpError("migrate-recover", "GenericError", "only when postcopy is paused"));

test.each([
  ["lacks nothing", [false], refuse, "whole"],
  ["waits for the rest", [true], async () => {}, "prepared"],
  ["was too slow to say that it lacks nothing", [true, false], refuse, "whole"],
] as const)("one that %s", async (_, lacks, recovers, answer) => {
  expect(await recover(arrival([...lacks], recovers))).toBe(answer);
});

test("one that can't be asked is not lost", async () => {
  const deaf = arrival([], refuse);
  Object.assign(deaf.qemu, { lacksMemory: () => Promise.reject(new ShrinkerError("input", "too many open files")) });
  expect((await failure(recover(deaf))).code).toBe("link");
});

test.each([
  ["can't do it now is not lost", [true, true], "link", "only when postcopy is paused"],
  ["has ended is lost", [undefined], "input", "has ended, and with it the guest"],
  ["has ended meanwhile is lost", [true, undefined], "input", "has ended, and with it the guest"],
] as const)("one that %s", async (_, lacks, code, why) => {
  const error = await failure(recover(arrival([...lacks], refuse)));
  expect([error.code, error.message]).toEqual([code, expect.stringContaining(why)]);
});

test("a QEMU whose connection is gone is ended by force, where that can be done", async () => {
  await using server = await startQmpServer({ commands: { quit: {} } });
  const qmp = await QmpClient.connect(server.path, { signal: never });
  await qmp.close();
  let killed = 0;
  await endMachine({
    qmp,
    async kill() {
      killed++;
    },
  });
  await endMachine({ qmp });
  expect([killed, server.requests.map(({ command }) => command)]).toEqual([1, []]);
});
