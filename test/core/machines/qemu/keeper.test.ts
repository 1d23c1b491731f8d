// Who keeps a connection to QEMU for one client after the other, whatever these do and whatever QEMU waits for.
import { expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { connect } from "node:net";
import { POLL_MS, QmpKeeper } from "../../../../core/machines/qemu/keeper.ts";
import { QmpClient, QmpError, QmpTimeout } from "../../../../core/machines/qemu/qmp.ts";
import { Refusal, SILENCE } from "../../../support/qmp-server.ts";
import { within } from "../../../support/session.ts";
import { until } from "../../../transports/helpers.ts";
import { failure } from "../nbd/connect.ts";
import { never, openPair } from "./connect.ts";

const SOON = { timeout: 50 };

/** A keeper of a QEMU that has begun with post-copy. */
async function open(commands: Record<string, unknown> = {}, pollMs = 500) {
  const pair = await openPair({ "query-migrate": { status: "postcopy-active" }, ...commands });
  const socket = `${pair.server.path}.kept`;
  let wanted = true;
  const keeper = await QmpKeeper.start(pair.qmp, { socket, wanted: () => wanted, pollMs });
  return {
    ...{ server: pair.server, keeper, socket },
    client: () => QmpClient.connect(socket, { signal: never, timeout: 2000 }),
    forget: () => {
      wanted = false;
    },
    async [Symbol.asyncDispose]() {
      await pair.qmp.close();
      await keeper.closed;
      await pair[Symbol.asyncDispose]();
    },
  };
}

test("one client after the other has the connection, with its own replies and the events of its time", async () => {
  const ids: unknown[] = [];
  const later = (_: unknown, id: unknown) => {
    ids.push(id);
    return SILENCE;
  };
  const refused = () => {
    throw new Refusal("not now", "DeviceNotFound");
  };
  await using kept = await open({ later, refused, "query-name": { name: "web", size: 1 } });
  expect(statSync(kept.socket).mode & 0o777).toBe(0o600);
  const first = await kept.client();
  expect([first.version, await first.execute("query-name")]).toEqual([
    { major: 10, minor: 0, micro: 2 },
    { name: "web", size: 1 },
  ]);
  const error = (await failure(first.execute("refused"))) as QmpError;
  expect([error instanceof QmpError, error.class, error.desc]).toEqual([true, "DeviceNotFound", "not now"]);
  const unanswered = failure(first.execute("later"));
  // It waits until the first one has gone, and never hears of what that had asked for.
  const waiting = kept.client();
  while (ids.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await first.close();
  await unanswered;
  const second = await within(waiting, "second client");
  const heard: unknown[] = [];
  second.onEvent((event) => heard.push(event));
  const asked = failure(second.execute("later", {}, SOON));
  kept.server.say(`{"return": "of the first", "id": ${ids[0]}}\n`);
  kept.server.event("MIGRATION", { status: "postcopy-paused" });
  expect((await asked) instanceof QmpTimeout).toBe(true);
  await until(() => heard.length > 0);
  expect(heard).toEqual([{ event: "MIGRATION", data: { status: "postcopy-paused" } }]);
  await second.close();
});

test("QEMU is never asked so much that it would read nothing more, not even out of band", async () => {
  await using kept = await open({ "query-status": () => SILENCE, "migrate-recover": {} });
  for (let i = 0; i < 5; i++) {
    const client = await kept.client();
    for (let k = 0; k < 2; k++) await failure(client.execute("query-status", {}, { timeout: 5 }));
    expect(await client.execute("migrate-recover", { uri: "unix:x" }, { outOfBand: true })).toEqual({});
    await client.close();
  }
  const { requests } = kept.server;
  expect(requests.filter(({ command }) => command === "query-status").length).toBe(4);
  expect(requests.filter(({ outOfBand }) => outOfBand).length).toBe(5);
});

test.each([
  ["no JSON", "no JSON\n"],
  ["no object", "[1]\n"],
  ["no command", "{}\n"],
  ["a number", `{"execute": 1}\n`],
  ["more than 4 MiB without an end", "x".repeat((4 << 20) + 1)],
  ["a command that is too long", `{"execute":"${"x".repeat(300)}"}\n`],
])("a client that says %s is dropped, and the next one served", async (_, text) => {
  await using kept = await open({ "query-name": {} });
  const raw = connect(kept.socket);
  const closed = new Promise((resolve) => raw.on("error", () => {}).on("close", resolve));
  raw.resume().write(text);
  await within(closed, "end of the connection");
  const next = await kept.client();
  expect(await next.execute("query-name")).toEqual({});
  await next.close();
});

test("it stays while the guest lacks memory, and ends without a trace when that is over", async () => {
  for (const end of ["QEMU", "migration", "journal"] as const) {
    const state = { status: "postcopy-paused" };
    await using kept = await open({ "query-migrate": () => state });
    const { keeper, server, socket } = kept;
    const client = await kept.client();
    await client.close();
    await (await kept.client()).close();
    expect(existsSync(socket)).toBe(true);
    const last = await kept.client();
    if (end === "QEMU") server.drop();
    if (end === "migration") state.status = "completed";
    if (end === "journal") kept.forget();
    if (end !== "QEMU") {
      // As long as it has a client, that one decides.
      await last.execute("query-migrate");
      await last.close();
    }
    await within(keeper.closed, `end by ${end}`);
    await within(last.closed, "end of the client");
    expect(existsSync(socket)).toBe(false);
  }
});

test("it does not stay for a guest that never comes", async () => {
  const state = { status: "postcopy-active" };
  await using kept = await open({ "query-migrate": () => state }, 1);
  const asked = () => kept.server.requests.length;
  while (asked() < 60) await new Promise((resolve) => setTimeout(resolve, 1));
  state.status = "setup";
  // Not while somebody is there who may see to it.
  const client = await kept.client();
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(existsSync(kept.socket)).toBe(true);
  await client.close();
  await within(kept.keeper.closed, "end");
  expect(existsSync(kept.socket)).toBe(false);
});

test("it ends when QEMU says four times in a row that there is no post-copy, and 24 times before the first client", async () => {
  expect(POLL_MS).toBe(500);
  for (const [clients, most] of [
    [0, 24],
    [1, 4],
  ] as const) {
    await using kept = await open({ "query-migrate": { status: "setup" }, "query-name": {} }, 5);
    let before = 0;
    if (clients > 0) {
      const client = await kept.client();
      await client.execute("query-name");
      before = kept.server.requests.length;
      await client.close();
    }
    await within(kept.keeper.closed, "end");
    const asked = kept.server.requests.length - before;
    // It asks once more before it looks at what it has heard.
    expect([clients, asked >= most && asked <= most + 1]).toEqual([clients, true]);
  }
});

test("one client waits for another to go, and no more", async () => {
  await using kept = await open({ "query-name": {} });
  const first = await kept.client();
  const second = connect(kept.socket);
  const dropped = new Promise((resolve) => second.on("error", () => {}).on("close", resolve));
  await new Promise((resolve) => second.resume().on("connect", resolve));
  const third = kept.client();
  await within(dropped, "end of the second");
  await first.close();
  const served = await within(third, "third client");
  expect(await served.execute("query-name")).toEqual({});
  await served.close();
});

test("a client that leaves more than 8 MiB unread is dropped", async () => {
  await using kept = await open();
  const lazy = connect(kept.socket);
  lazy.on("error", () => {});
  await new Promise((resolve) => lazy.once("data", resolve));
  lazy.pause();
  let served = false;
  const next = kept.client().then((client) => {
    served = true;
    return client;
  });
  next.catch(() => {});
  const say = async (times: number) => {
    for (let i = 0; i < times; i++) kept.server.event("LARGE", { data: "x".repeat(1 << 20) });
    await new Promise((resolve) => setTimeout(resolve, 100));
  };
  await say(7);
  expect(served).toBe(false);
  await say(5);
  await (await within(next, "next client")).close();
  lazy.destroy();
});

test("it takes no other's place", async () => {
  await using kept = await open();
  await using other = await openPair();
  const error = await failure(QmpKeeper.start(other.qmp, { socket: kept.socket, wanted: () => true }));
  expect(error.message).toContain("Cannot listen at");
  await within(other.qmp.closed, "end of the connection");
  await (await kept.client()).close();
});
