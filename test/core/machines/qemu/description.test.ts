import { expect, describe as group, test } from "bun:test";
import { ProtocolError } from "../../../../core/errors.ts";
import { compatible } from "../../../../core/machines/qemu/compatible.ts";
import { describe, type VmDescription } from "../../../../core/machines/qemu/description.ts";
import type { Reply } from "../../../support/qmp-server.ts";
import { failure } from "../nbd/connect.ts";
import { openPair } from "./connect.ts";

const image = { "virtual-size": 2 ** 40 };
const inserted = (file: string, ro = false) => ({ "node-name": `node of ${file}`, ro, file, image, more: {} });
const disks = [
  { device: "", qdev: "/machine/peripheral/vd0/virtio-backend", inserted: inserted("/disks/a.raw") },
  { device: "ide0-hd0", inserted: inserted("b.qcow2", true) },
  { device: "cd", removable: true },
  { device: "net", inserted: inserted("nbd+unix:///d0?socket=s") },
  { device: "null", inserted: { ro: true, image, file: 'json:{"driver": "null-co"}' } },
];
const replies = (): Record<string, Reply> => ({
  "query-name": { name: "web" },
  "query-uuid": { UUID: "u-1" },
  "query-memory-size-summary": { "base-memory": 2 ** 30, "plugged-memory": 2 ** 20 },
  "query-cpus-fast": [{ "qom-path": "/cpu0", "thread-id": 1 }, { "qom-path": "/cpu1" }],
  "query-kvm": { enabled: true, present: true },
  "query-status": { status: "running", running: true },
  "query-block": disks,
  "query-migrate": { "blocked-reasons": ["a device can't"] },
  "qom-get": ({ path }: { path: string }) => (path === "/machine" ? "pc-q35-10.0-machine" : "Haswell-v2-x86_64-cpu"),
});

const vm: VmDescription = {
  name: "web",
  uuid: "u-1",
  qemu: { major: 10, minor: 0, micro: 2 },
  machine: "pc-q35-10.0",
  ramBytes: 2 ** 30 + 2 ** 20,
  vcpus: 2,
  cpuModel: "Haswell-v2",
  accelerator: "kvm",
  runState: "running",
  disks: [],
  blockers: ["a device can't"],
};

group("a description", () => {
  test("has what QEMU says, of disks those with a medium", async () => {
    await using pair = await openPair(replies());
    const { disks, ...rest } = await describe(pair.qmp);
    expect<VmDescription>({ ...rest, disks: [] }).toEqual(vm);
    const common = { sizeBytes: 2 ** 40, writable: true };
    expect(disks).toEqual([
      { ...common, node: "node of /disks/a.raw", device: disks[0]!.device, file: "/disks/a.raw" },
      { ...common, node: "node of b.qcow2", device: "ide0-hd0", writable: false, file: "b.qcow2" },
      { ...common, node: "node of nbd+unix:///d0?socket=s", device: "net" },
      { ...common, node: "", device: "null", writable: false },
    ]);
    expect(disks[0]!.device).toContain("/vd0/");
  });

  test("does without what an older QEMU doesn't tell", async () => {
    const commands = replies();
    delete commands["query-kvm"];
    commands["query-migrate"] = {};
    commands["query-name"] = {};
    commands["query-memory-size-summary"] = { "base-memory": 5 };
    commands["query-cpus-fast"] = [];
    await using pair = await openPair(commands);
    const { name, accelerator, blockers, ramBytes, cpuModel, vcpus } = await describe(pair.qmp);
    expect([name, accelerator, blockers, ramBytes, cpuModel, vcpus]).toEqual([undefined, "tcg", [], 5, undefined, 0]);
  });

  test.each([
    ["query-uuid", null],
    ["query-name", { name: "x".repeat(2000) }],
    ["query-memory-size-summary", { "base-memory": -1 }],
    ["query-cpus-fast", {}],
    ["query-kvm", { enabled: 1 }],
    ["query-block", [{ device: "a", inserted: { ...inserted("a"), image: { "virtual-size": 1.5 } } }]],
    ["query-migrate", { "blocked-reasons": [1] }],
  ])("is not made of a strange reply to %s", async (command, reply) => {
    await using pair = await openPair({ ...replies(), [command]: reply });
    const error = await failure(describe(pair.qmp));
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error.message).toContain(`QEMU's reply to "${command}" has a bad `);
  });
});

group("a destination", () => {
  const older = { ...vm, qemu: { major: 9, minor: 2, micro: 0 } };

  test.each([
    ["the machine", { machine: "pc-q35-9.2" }, "-machine pc-q35-10.0"],
    ["memory", { ramBytes: 2 ** 30 }, "1025 MiB at the source and 1024 MiB at the destination"],
    ["processors", { vcpus: 3 }, "-smp 2"],
    ["the processor", { cpuModel: "qemu64" }, "-cpu Haswell-v2"],
    ["an older QEMU", { qemu: older.qemu }, "QEMU 9.2 is older than the source's: install 10.0 or later"],
    ["a QEMU that is a little older", { qemu: { major: 9, minor: 9, micro: 0 } }, "older"],
  ])("that differs in %s does not fit", (_, differing, message) => {
    const against = compatible(vm, { ...vm, ...differing });
    expect(against).toHaveLength(1);
    expect(against[0]).toContain(message);
  });

  test("fits where it is alike, or newer, or doesn't tell its processor", () => {
    expect(compatible(vm, { ...vm, name: "other", qemu: { major: 10, minor: 0, micro: 0 } })).toEqual([]);
    expect(compatible(older, { ...vm, cpuModel: undefined })).toEqual([]);
  });

  test("fits where it would be run in another way", () => {
    const other: VmDescription = { ...vm, accelerator: "tcg" };
    expect(compatible(vm, other)).toEqual([]);
  });
});
