// The QMP of a fake VM, byte by byte: what real clients send and what they do wrong, in QEMU 10's words.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { startFake } from "../../../../core/machines/fake/fake-vm.ts";
import { type Lab, lab, type Started, spec } from "./support.ts";

/** A client that has no manners. */
async function connect(path: string) {
  const socket = net.connect(path);
  await once(socket, "connect");
  let held = "";
  let wake = () => {};
  socket.setEncoding("utf8").on("data", (text: string) => {
    held += text;
    wake();
  });
  socket.on("error", () => {}).on("close", () => wake());
  const line = async (): Promise<Record<string, unknown> | undefined> => {
    for (;;) {
      const end = held.indexOf("\n");
      if (end >= 0) {
        const text = held.slice(0, end);
        held = held.slice(end + 1);
        return JSON.parse(text);
      }
      if (socket.destroyed) return undefined;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const ask = (text: string) => {
    socket.write(text);
    return line();
  };
  return { socket, line, ask };
}
const READY = '{"execute":"qmp_capabilities"}';

let here: Lab;
let vm: Started;
beforeAll(async () => {
  here = lab();
  vm = await here.start("web?memory=1M&disk=1M");
});
afterAll(() => here[Symbol.asyncDispose]());

const failure = (desc: string, kind = "GenericError") => ({ error: { class: kind, desc } });
const command = (name: string, given?: object) => vm.qmp.execute(name, given as Record<string, unknown>);

describe("a client", () => {
  test("is greeted, negotiates, and is told what it does wrong", async () => {
    const { vm: other } = await here.start("other?memory=1M");
    const path = here.path("raw");
    await using own = await startFake(spec("raw?memory=1M"), { qmpPath: path });
    const { socket, line, ask } = await connect(path);
    const version = { qemu: { micro: 2, minor: 0, major: 10 }, package: "shrinker fake" };
    expect(await line()).toEqual({ QMP: { version, capabilities: ["oob"] } });
    const before = "Expecting capabilities negotiation with 'qmp_capabilities'";
    const after = "Capabilities negotiation is already complete, command ignored";
    const replies: [string, unknown][] = [
      ['{"execute":"query-status"}', failure(before, "CommandNotFound")],
      [
        '{"execute":"qmp_capabilities","arguments":{"enable":["tls"]}}',
        failure("Parameter 'enable' does not accept value 'tls'"),
      ],
      [READY, { return: {} }],
      [READY, failure(after, "CommandNotFound")],
      [
        '{"execute":"nope","id":{"a":1}}',
        { id: { a: 1 }, ...failure("The command nope has not been found", "CommandNotFound") },
      ],
      ['{"foo":1}', failure("QMP input member 'foo' is unexpected")],
      ['{"execute":1}', failure("QMP input member 'execute' must be a string")],
      ["[1]", failure("QMP input must be a JSON object")],
      ['{"execute":"query-status","arguments":{"x":1}}', failure("Parameter 'x' is unexpected")],
      ['{"execute":"query-status","arguments":3}', failure("QMP input member 'arguments' must be an object")],
      ['{"exec-oob":"migrate-pause"}', failure("QMP input member 'exec-oob' is unexpected")],
      ['{"execute":"query-name","id":"}{\\"]"}', { return: { name: "raw" }, id: '}{"]' }],
    ];
    for (const [sent, expected] of replies) expect(await ask(sent)).toEqual(expected as Record<string, unknown>);
    expect(await ask("junk\n")).toMatchObject({ error: { desc: expect.stringContaining("JSON parse error") } });
    // In pieces, and several at once.
    for (const byte of '{"execute": "query-kvm"') socket.write(byte);
    socket.write('} {"execute":"query-status","id":2}{"execute":"stop"}');
    expect(await line()).toEqual({ return: { enabled: false, present: true } });
    expect(await line()).toEqual({ return: { status: "running", running: true }, id: 2 });
    expect(await line()).toMatchObject({ event: "STOP", timestamp: { seconds: expect.any(Number) } });
    expect(await line()).toEqual({ return: {} });
    expect(other.runState).toBe("running");

    // A second client is greeted when the first one has gone.
    const second = await connect(path);
    second.socket.write(READY);
    expect(await Promise.race([second.line(), ask('{"execute":"query-name"}')])).toEqual({ return: { name: "raw" } });
    socket.destroy();
    expect(await second.line()).toHaveProperty("QMP");
    expect(await second.line()).toEqual({ return: {} });
    // A message without an end is not waited for.
    second.socket.write(`{"execute":"${"x".repeat(2 ** 20 + 100)}`);
    expect(await second.line()).toBeUndefined();
    expect(own.runState).toBe("paused");
  });

  test("may belong to this user only, and has no socket where a file is", async () => {
    expect(statSync(here.path("qmp0")).mode & 0o777).toBe(0o600);
    writeFileSync(here.path("file"), "");
    await expect(startFake(spec("a"), { qmpPath: here.path("file") })).rejects.toMatchObject({ code: "exists" });
    await expect(startFake(spec("a"), { qmpPath: here.path("no/q") })).rejects.toMatchObject({ code: "input" });
    await expect(startFake(spec("a"), { qmpPath: "x".repeat(108) })).rejects.toMatchObject({ code: "usage" });
  });
});

test.each([
  ["migrate", {}, "need either 'uri' or 'channels' argument"],
  ["migrate", { uri: 3 }, "Invalid parameter type for 'uri', expected: string"],
  ["migrate", { uri: "foo" }, "unknown migration protocol: foo"],
  ["migrate", { uri: "unix:/x", channels: [{}] }, "need either 'uri' or 'channels' argument"],
  ["migrate-incoming", { uri: "unix:/x" }, "'-incoming' was not specified on the command line"],
  ["migrate-continue", { state: "pre-switchover" }, "Migration not in expected state: none"],
  ["migrate-continue", { state: "foo" }, "Parameter 'state' does not accept value 'foo'"],
  ["migrate-pause", {}, "migrate-pause is currently only supported during postcopy-active or postcopy-recover state"],
  ["migrate-start-postcopy", {}, "Enable postcopy with migrate_set_capability before the start of migration"],
  ["migrate-recover", { uri: "unix:/x" }, "Migrate recover can only be run when postcopy is paused."],
  ["qom-get", { path: "/nope", property: "type" }, "Device '/nope' not found"],
  ["qom-get", { path: "/machine", property: "nope" }, "Property 'fake-10.0-machine.nope' not found"],
  ["migrate-set-capabilities", {}, "Parameter 'capabilities' is missing"],
  ["migrate-set-capabilities", { capabilities: 7 }, "Invalid parameter type for 'capabilities', expected: array"],
  [
    "migrate-set-capabilities",
    { capabilities: [{ capability: "events" }] },
    "Parameter 'capabilities[0].state' is missing",
  ],
  [
    "migrate-set-capabilities",
    { capabilities: [{ capability: "a", state: true }] },
    "Parameter 'capability' does not accept value 'a'",
  ],
  [
    "migrate-set-capabilities",
    { capabilities: [{ capability: "postcopy-ram", state: true }] },
    "Postcopy is not supported: Userfaultfd not available: Function not implemented",
  ],
  [
    "migrate-set-capabilities",
    { capabilities: [{ capability: "multifd", state: true }] },
    "Capability 'multifd' is not supported by this VM",
  ],
  ["migrate-set-parameters", { "max-bandwidth": "x" }, "Parameter 'max-bandwidth' expects uint64"],
  ["migrate-set-parameters", { "max-bandwidth": 1.5 }, "Parameter 'max-bandwidth' expects uint64"],
  ["migrate-set-parameters", { nope: 1 }, "Parameter 'nope' is unexpected"],
  [
    "migrate-set-parameters",
    { "downtime-limit": 99999999 },
    "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
  ],
  ["migrate-set-parameters", { "cpu-throttle-initial": 1000 }, "Parameter 'cpu-throttle-initial' expects uint8_t"],
  [
    "migrate-set-parameters",
    { "multifd-channels": 0 },
    "Parameter 'multifd_channels' expects a value between 1 and 255",
  ],
] as const)("%s %j fails as QEMU says it", async (name, given, message) => {
  await expect(command(name, given)).rejects.toThrow(`${name}: ${message}`);
});

test("capabilities and parameters are all taken, or none of them", async () => {
  const two = { capabilities: ["return-path", "xbzrle"].map((capability) => ({ capability, state: true })) };
  await expect(command("migrate-set-capabilities", two)).rejects.toThrow("xbzrle");
  await expect(command("migrate-set-parameters", { "downtime-limit": 7, mode: "x" })).rejects.toThrow("mode");
  expect(vm.vm.parts.capabilities.list().filter(({ state }) => state)).toEqual([]);
  expect(vm.vm.parts.parameters.downtimeLimit).toBe(300);
  await command("migrate-set-parameters", { "downtime-limit": 7 });
  expect(await command("query-migrate-parameters")).toMatchObject({ "downtime-limit": 7, "max-bandwidth": 2 ** 27 });
});

test("a guest that runs shuts down when it is asked to, and one that is stopped does not", async () => {
  const [running, stopped] = [await here.start("r?memory=1M"), await here.start("s?memory=1M", { paused: true })];
  for (const { qmp } of [running, stopped]) await qmp.execute("system_powerdown");
  expect(await running.vm.ended).toBe("quit");
  expect(running.vm.events.map(({ event }) => event)).toEqual(["RESUME", "POWERDOWN", "SHUTDOWN"]);
  expect([running.vm.runState, stopped.vm.runState]).toEqual(["shutdown", "prelaunch"]);
  await stopped.qmp.execute("quit");
  expect(await stopped.vm.ended).toBe("quit");
});
