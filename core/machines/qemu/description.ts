import * as v from "valibot";
import { number, text } from "../../wire/map.ts";
import { type QemuVersion, type QmpClient, QmpError } from "./qmp.ts";
import { ask } from "./reply.ts";
import { runState } from "./run-state.ts";

const word = text(1024);
const list = <S extends v.GenericSchema>(item: S, most: number) => v.pipe(v.array(item), v.maxLength(most));

const nameSchema = v.object({ name: v.optional(word) });
const uuidSchema = v.object({ UUID: word });
const memorySchema = v.object({ "base-memory": number, "plugged-memory": v.optional(number, 0) });
const cpusSchema = list(v.object({ "qom-path": word }), 65_536);
const kvmSchema = v.object({ enabled: v.boolean() });
const migrateSchema = v.object({ "blocked-reasons": v.optional(list(text(65_536), 1024), []) });
const blockSchema = list(
  v.object({
    device: word,
    qdev: v.optional(word),
    inserted: v.optional(
      v.object({
        "node-name": v.optional(word, ""),
        ro: v.boolean(),
        file: text(65_536),
        image: v.object({ "virtual-size": number }),
      }),
    ),
  }),
  65_536,
);

export interface VmDisk {
  /** The block node at the top, which `blockdev-mirror` and exports take; empty for one that has no name. */
  readonly node: string;
  /** The drive's name or, without one, the path of its device. */
  readonly device: string;
  readonly sizeBytes: number;
  readonly writable: boolean;
  /** The image's path, where it is a file or a device here. */
  readonly file?: string;
}

/** What a QEMU says of its machine and guest. Plain, so it can be sent and kept as JSON. */
export interface VmDescription {
  readonly name: string | undefined;
  readonly uuid: string;
  readonly qemu: QemuVersion;
  /** The versioned type, such as `pc-i440fx-10.0`, also where an alias of it was asked for. */
  readonly machine: string;
  /** What the guest has, with memory that was plugged in. */
  readonly ramBytes: number;
  readonly vcpus: number;
  /** Of the first processor, such as `qemu64`; undefined where QEMU doesn't tell. */
  readonly cpuModel: string | undefined;
  readonly accelerator: "kvm" | "tcg";
  /** As `query-status` has it: `running`, `paused`, `inmigrate`, ... */
  readonly runState: string;
  /** Those with a medium in them. */
  readonly disks: readonly VmDisk[];
  /** What keeps this guest from being migrated, in QEMU's words. QEMU before 6.0 doesn't tell. */
  readonly blockers: readonly string[];
}

/** Asks QEMU what it runs. Rejects as `QmpClient.execute`, and with a `ProtocolError` for replies of a wrong shape. */
export async function describe(qmp: QmpClient): Promise<VmDescription> {
  const [{ name }, { UUID }, memory, cpus, kvm, machine, { status }, blocks, migration] = await Promise.all([
    ask(qmp, nameSchema, "query-name"),
    ask(qmp, uuidSchema, "query-uuid"),
    ask(qmp, memorySchema, "query-memory-size-summary"),
    ask(qmp, cpusSchema, "query-cpus-fast"),
    ask(qmp, kvmSchema, "query-kvm").catch(unlessRefused),
    ask(qmp, word, "qom-get", { path: "/machine", property: "type" }),
    runState(qmp),
    ask(qmp, blockSchema, "query-block"),
    ask(qmp, migrateSchema, "query-migrate"),
  ]);
  const path = cpus[0]?.["qom-path"];
  const cpu =
    path === undefined ? undefined : await ask(qmp, word, "qom-get", { path, property: "type" }).catch(unlessRefused);
  const { major, minor, micro } = qmp.version;
  return {
    name,
    uuid: UUID,
    qemu: { major, minor, micro },
    machine: machine.replace(/-machine$/, ""),
    ramBytes: memory["base-memory"] + memory["plugged-memory"],
    vcpus: cpus.length,
    // "qemu64-x86_64-cpu": the model, what it is a model of, and what sort of object.
    cpuModel: cpu?.replace(/-[^-]+-cpu$/, ""),
    accelerator: kvm?.enabled ? "kvm" : "tcg",
    runState: status,
    disks: blocks.flatMap(toDisk),
    blockers: migration["blocked-reasons"],
  };
}

/** Not every QEMU has every query. */
function unlessRefused(error: unknown): undefined {
  if (!(error instanceof QmpError)) throw error;
  return undefined;
}

function toDisk({ device, qdev, inserted }: v.InferOutput<typeof blockSchema>[number]): VmDisk[] {
  if (!inserted) return [];
  const { "node-name": node, ro, file, image } = inserted;
  const disk = { node, device: device || qdev || "", sizeBytes: image["virtual-size"], writable: !ro };
  // What isn't a file has a URL, or the options of its node after `json:`.
  return [/^[a-z][a-z0-9+.-]*:/.test(file) ? disk : { ...disk, file }];
}
