import { createHash } from "node:crypto";
import { QmpError } from "./qmp-error.ts";
import type { FakeSpec } from "./spec.ts";
import { MACHINE_TYPE } from "./vm-parts.ts";

/** Answers of QMP that never change: a QEMU 10 with one processor under TCG. */

export const VERSION = { qemu: { micro: 2, minor: 0, major: 10 }, package: "shrinker fake" };

const CPU_PATH = "/machine/unattached/device[0]";
/** The objects whose type can be asked for. */
const TYPES: ReadonlyMap<string, string> = new Map([
  ["/machine", `${MACHINE_TYPE}-machine`],
  [CPU_PATH, "fake-x86_64-cpu"],
]);

export function cpus(): unknown[] {
  const props = { "core-id": 0, "thread-id": 0, "socket-id": 0 };
  return [{ "thread-id": process.pid, props, "qom-path": CPU_PATH, "cpu-index": 0, target: "x86_64" }];
}

/** Throws a `QmpError` for an object that there isn't, or a property that can't be asked for. */
export function objectProperty(path: string, property: string): unknown {
  const type = TYPES.get(path);
  if (type === undefined) throw new QmpError(`Device '${path}' not found`, "DeviceNotFound");
  if (property !== "type") throw new QmpError(`Property '${type}.${property}' not found`);
  return type;
}

/** A UUID that follows from the VM's name. */
export function uuidOf(name: string): string {
  const digest = createHash("sha256").update(name).digest();
  digest[6] = (digest[6]! & 0x0f) | 0x80;
  digest[8] = (digest[8]! & 0x3f) | 0x80;
  return digest.toString("hex", 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** What a disk without contents looks like; none where the spec has none. */
export function blockDevice(spec: FakeSpec): unknown[] {
  if (spec.disk === 0) return [];
  const inserted = node(spec, "d0", "raw", false);
  return [
    {
      "io-status": "ok",
      device: "",
      locked: false,
      removable: false,
      inserted,
      qdev: "/machine/peripheral/vd0/virtio-backend",
      type: "unknown",
    },
  ];
}

export function blockNodes(spec: FakeSpec): unknown[] {
  return spec.disk === 0 ? [] : [node(spec, "d0", "raw", true), node(spec, "f0", "file", true)];
}

function node(spec: FakeSpec, name: string, format: string, writeback: boolean): unknown {
  const filename = `/nonexistent/${spec.name}.raw`;
  const specific = format === "file" && { "format-specific": { type: "file", data: {} } };
  const zeros = Object.fromEntries(
    ["iops_rd", "iops_wr", "iops", "bps_rd", "bps_wr", "bps", "write_threshold", "backing_file_depth"].map((key) => [
      key,
      0,
    ]),
  );
  const sizes = { "virtual-size": spec.disk, "actual-size": 0 };
  return {
    ...zeros,
    detect_zeroes: "off",
    active: true,
    image: { ...sizes, filename, format, ...specific, "dirty-flag": false },
    ro: false,
    "node-name": name,
    drv: format,
    encrypted: false,
    cache: { "no-flush": false, direct: false, writeback },
    file: filename,
  };
}
