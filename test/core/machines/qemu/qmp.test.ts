import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { CancelledError, LinkError, ProtocolError } from "../../../../core/errors.ts";
import { QmpClient, QmpError, QmpTimeout } from "../../../../core/machines/qemu/qmp.ts";
import { END, type QmpServerOptions, Refusal, SILENCE, startQmpServer } from "../../../support/qmp-server.ts";
import { within } from "../../../support/session.ts";
import { failure } from "../nbd/connect.ts";
import { never, openPair, type Pair } from "./connect.ts";

/** Why a server that behaves like this can't be connected to. */
async function refused(options: QmpServerOptions, timeout = 5000, signal: AbortSignal = never) {
  await using server = await startQmpServer(options);
  return await within(failure(QmpClient.connect(server.path, { signal, timeout })));
}

describe("a QMP connection", () => {
  test("tells the version, and runs several commands, answered in any order and in any pieces", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }), async (split) => {
        const ids: unknown[] = [];
        const later = (_: unknown, id: unknown) => {
          ids.push(id);
          return SILENCE;
        };
        await using pair = await openPair({ later, now: { text: "ü\n" } }, { split, version: [9, 1, 0] });
        const { qmp, server } = pair;
        expect(qmp.version).toEqual({ major: 9, minor: 1, micro: 0 });
        const [one, two] = [qmp.execute("later"), qmp.execute("later", { a: 2 ** 40 })];
        expect(await qmp.execute("now")).toEqual({ text: "ü\n" });
        for (const id of ids.reverse()) server.say(`{"return": "of ${id}", "id": ${id}}\n`);
        expect([await one, await two]).toEqual([`of ${ids[1]}`, `of ${ids[0]}`]);
        expect(server.requests[1]!.args).toEqual({ a: 2 ** 40 });
      }),
      { numRuns: 20 },
    );
  });

  test("gives events to who listens, as long as they do, and minds no reply that nobody waits for", async () => {
    await using pair = await openPair({ "query-name": {} });
    const { qmp, server } = pair;
    const heard: unknown[] = [];
    const stop = qmp.onEvent((event) => heard.push(event));
    server.say('{"return": 1, "id": 99}\n{"return": 1}\n{"error": {"class": "A", "desc": "b"}, "id": "x"}\n');
    server.event("STOP");
    server.event("MIGRATION", { status: "setup" });
    await qmp.execute("query-name");
    stop();
    server.event("RESUME");
    await qmp.execute("query-name");
    expect(heard).toEqual([
      { event: "STOP", data: {} },
      { event: "MIGRATION", data: { status: "setup" } },
    ]);
  });

  test("rejects with QEMU's words what it refuses, on one line", async () => {
    const refuse = () => {
      throw new Refusal(`No "x"\n${"words".repeat(1000)}`, "DeviceNotFound");
    };
    await using pair = await openPair({ eject: refuse });
    const error = await failure(pair.qmp.execute("eject"));
    expect(error).toBeInstanceOf(QmpError);
    expect(error).toMatchObject({ code: "input", class: "DeviceNotFound" });
    expect(error.message).toContain('QEMU refuses "eject": No "x" wordswords');
    expect((error as QmpError).desc).toHaveLength(2000);
  });

  test("waits so long for a reply, and not longer, and goes on", async () => {
    await using pair = await openPair({ sleep: SILENCE, "query-name": {} });
    const error = await within(failure(pair.qmp.execute("sleep", {}, { timeout: 30 })));
    expect(error).toBeInstanceOf(QmpTimeout);
    expect(error.message).toContain('"sleep"');
    pair.server.say('{"return": "late", "id": 2}\n');
    expect(await pair.qmp.execute("query-name")).toEqual({});
  });

  test("serves out of band where it can", async () => {
    await using pair = await openPair({ "migrate-pause": {} });
    await pair.qmp.execute("migrate-pause", {}, { outOfBand: true });
    expect(pair.server.requests[0]!.outOfBand).toBe(true);
  });

  test.each([
    ["QEMU ends it", ({ server }: Pair): void => server.drop(), LinkError, "Lost the QMP"],
    ["it is closed", ({ qmp }: Pair): void => void qmp.close(), LinkError, "is closed"],
    ["QEMU says nonsense", ({ server }: Pair): void => server.say("nonsense\n"), ProtocolError, "nonsense"],
    ["QEMU says a number", ({ server }: Pair): void => server.say("1\n"), ProtocolError, "neither"],
    ["a line has no end", ({ server }: Pair): void => server.say("x".repeat(5 << 20)), ProtocolError, "4194304 bytes"],
  ] as const)("is over for all that waits and comes once %s", async (_, end, kind, message) => {
    await using pair = await openPair({ sleep: SILENCE });
    const waiting = [failure(pair.qmp.execute("sleep")), failure(pair.qmp.execute("sleep"))];
    end(pair);
    await within(pair.qmp.closed);
    for (const error of [...(await within(Promise.all(waiting))), await failure(pair.qmp.execute("sleep"))]) {
      expect(error).toBeInstanceOf(kind);
      expect(error.message).toContain(message);
    }
  });
});

describe("connecting", () => {
  test.each([
    ["speaks HTTP", { greeting: "HTTP/1.1 400 Bad Request\r\n" }, ProtocolError, "HTTP/1.1 400"],
    ["greets otherwise", { greeting: '{"hello": 1}\n' }, ProtocolError, "greet"],
    ["is set to pretty=on", { greeting: '{\n  "QMP": {}\n}\n' }, ProtocolError, "pretty=on"],
    ["refuses to begin", { commands: { qmp_capabilities: undefined } }, QmpError, "not been found"],
    ["ends at once", { commands: { qmp_capabilities: END } }, LinkError, "Lost"],
  ])("to what %s is told", async (_, options, kind, message) => {
    const error = await refused(options);
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toContain(message);
  });

  test("to what is silent ends in time, and at once when it is aborted", async () => {
    expect(await refused({ greeting: null }, 50)).toMatchObject({ code: "link" });
    expect(await refused({ commands: { qmp_capabilities: SILENCE } }, 50)).toMatchObject({ code: "link" });
    const abort = new AbortController();
    setTimeout(() => abort.abort(new CancelledError("by hand")), 20);
    expect((await refused({ greeting: null }, 5000, abort.signal)).message).toBe("by hand");
    expect((await refused({}, 5000, abort.signal)).message).toBe("by hand");
  });

  test("to a socket that serves somebody says so, and works once that one has gone", async () => {
    await using pair = await openPair();
    const busy = await failure(QmpClient.connect(pair.server.path, { signal: never, timeout: 50 }));
    expect(busy).toBeInstanceOf(LinkError);
    expect(busy.message).toContain("serves one at a time");
    const second = QmpClient.connect(pair.server.path, { signal: never });
    await pair.qmp.close();
    await (await within(second)).close();
  });

  test("needs a socket", async () => {
    await using pair = await openPair();
    const at = (name: string) => join(dirname(pair.server.path), name);
    writeFileSync(at("file"), "");
    const connect = (path: string) => failure(QmpClient.connect(path, { signal: never }));
    for (const [name, message] of [
      ["none", "there is no socket"],
      ["file", "nobody listens"],
    ] as const) {
      const error = await connect(at(name));
      expect(error.code).toBe("input");
      expect(error.message).toContain(message);
    }
    expect(await connect(at("x".repeat(108)))).toMatchObject({ code: "usage" });
    expect(await connect("")).toMatchObject({ code: "usage" });
  });
});
