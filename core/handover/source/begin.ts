import { randomBytes } from "node:crypto";
import { ShrinkerError } from "../../errors.ts";
import { checkStreamName } from "../../machines/image/name.ts";
import { describe, type VmDescription } from "../../machines/qemu/description.ts";
import { QmpClient } from "../../machines/qemu/qmp.ts";
import { isLive, runState } from "../../machines/qemu/run-state.ts";
import { socketIdentity } from "../../machines/qemu/socket-path.ts";
import { QemuSource } from "../../machines/qemu/source.ts";
import { Journal } from "../journal.ts";

/** A guest that is about to leave: it has been looked at, and its journal is open. */
export interface Departing {
  readonly name: string;
  readonly machine: QemuSource;
  readonly description: VmDescription;
  readonly journal: Journal;
}

export interface BeginOptions {
  /** As the user calls it; else QEMU's own `-name`. */
  readonly name: string | undefined;
  /** Path of the QMP socket. */
  readonly qmp: string;
  /** State folder. */
  readonly state: string;
  /** Where it goes. */
  readonly to: string;
  readonly keepSource: boolean;
  /** Whether the guest is to stay paused at the destination. */
  readonly paused: boolean;
  /** Whether disks are the same at both ends, so that they need not move. */
  readonly sharedStorage: boolean;
  readonly signal: AbortSignal;
}

/**
 * The phase before anything is dialled: is the guest one that can move? Rejects with `refused` and what to do where it is not,
 * and as `QmpClient.connect`.
 */
export async function begin(options: BeginOptions): Promise<Departing> {
  const { qmp: path, state, to, keepSource, paused, signal } = options;
  const qmp = await QmpClient.connect(path, { signal });
  try {
    const description = await describe(qmp);
    const name = options.name ?? description.name;
    if (name === undefined)
      throw new ShrinkerError("usage", `The QEMU at "${path}" has no -name: give it one here, as NAME=qmp:${path}`);
    checkStreamName(name);
    const why = obstacle(description, options.sharedStorage);
    if (why) throw new ShrinkerError("refused", `"${name}" can't move: ${why}`);
    const ran = isLive(await runState(qmp));
    const id = randomBytes(16).toString("hex");
    const socket = await socketIdentity(path);
    if (socket === undefined)
      throw new ShrinkerError(
        "input",
        `The socket "${path}" is gone: whoever takes up after a crash could not reach it`,
      );
    const journal = await Journal.create(state, {
      ...{ id, role: "source", phase: "begun", name, qmp: path, socket, to, keepSource },
      ran,
      runs: ran && !paused,
    });
    return { name, machine: new QemuSource(qmp, { guestRan: ran }), description, journal };
  } catch (error) {
    await qmp.close();
    throw error;
  }
}

/** Nothing has been done with it yet. Never rejects. */
export async function abandon({ machine, journal }: Departing): Promise<void> {
  await machine.qmp.close();
  await journal.remove().catch(() => journal.release());
}

/** What keeps a guest from leaving, and what to do. */
function obstacle({ runState, blockers, disks }: VmDescription, sharedStorage: boolean): string | undefined {
  if (runState === "inmigrate") return "it waits for a migration itself";
  if (runState === "postmigrate")
    return "it has been migrated already; see `shrinker list --migrations`, and if it runs nowhere else, let it run again";
  if (runState === "finish-migrate") return "another migration of it is about to end";
  if (blockers.length > 0) return `${blockers.join("; ")}; remove what QEMU can't migrate`;
  const local = sharedStorage ? undefined : disks.find(({ writable }) => writable);
  if (!local) return undefined;
  const where = local.file === undefined ? "" : ` (${local.file})`;
  return `its disk "${local.device || local.node}"${where} does not move with it; if both ends have the same storage, say --shared-storage`;
}
