import { blockDevice, blockNodes, cpus, objectProperty, uuidOf, VERSION } from "./answers.ts";
import { CAPABILITIES, type CapabilityState } from "./capabilities.ts";
import type { FakeVm } from "./fake-vm.ts";
import { type Arguments, type ArgumentTypes, checkArguments, checkChoice, readAddress } from "./qmp-arguments.ts";
import { QmpError } from "./qmp-error.ts";

/** What never comes, as the answer of a command that a fault holds up. */
const never = new Promise<never>(() => {});

export interface QmpCommand {
  readonly types: ArgumentTypes;
  /** Whether it may be sent as `exec-oob`. */
  readonly oob?: boolean;
  /** Returns what QEMU would, or throws a `QmpError`. */
  run(vm: FakeVm, given: Arguments): unknown;
}

const WHERE = { "uri?": "string", "channels?": "array" } as const;
const nothing = {};

/** Commands without arguments. */
const simple = (run: QmpCommand["run"], oob = false): QmpCommand => ({ types: {}, run, oob });

/** All commands but `qmp_capabilities`. */
export const COMMANDS: ReadonlyMap<string, QmpCommand> = new Map<string, QmpCommand>(
  Object.entries({
    "query-version": simple(() => VERSION),
    "query-commands": simple(() => [...COMMANDS.keys(), "qmp_capabilities"].map((name) => ({ name }))),
    "query-name": simple(({ parts }) => ({ name: parts.spec.name })),
    "query-uuid": simple(({ parts }) => ({ UUID: uuidOf(parts.spec.name) })),
    "query-status": simple(({ runState }) => ({ status: runState, running: runState === "running" })),
    "query-kvm": simple(() => ({ enabled: false, present: true })),
    "query-cpus-fast": simple(() => cpus()),
    "query-memory-size-summary": simple(({ parts }) => ({ "base-memory": parts.spec.memory, "plugged-memory": 0 })),
    "query-block": simple(({ parts }) => blockDevice(parts.spec)),
    "query-named-block-nodes": {
      types: { "flat?": "boolean" },
      run: ({ parts }) => blockNodes(parts.spec),
    },
    "qom-get": {
      types: { path: "string", property: "string" },
      run: (_, { path, property }) => objectProperty(String(path), String(property)),
    },
    stop: simple((vm) => {
      if (vm.runState === "inmigrate") vm.parts.autostart = false;
      else vm.parts.run.stop("paused");
      return nothing;
    }),
    cont: simple((vm) => {
      if (vm.parts.faults.take("refuse", "cont")) throw new QmpError("Refused on purpose: fail=refuse@cont");
      if (vm.parts.faults.take("stall", "cont")) return never;
      if (vm.parts.faults.take("die", "cont")) {
        vm.parts.die();
        return never;
      }
      if (vm.runState === "finish-migrate") throw new QmpError("Migration is not finalized yet");
      if (vm.runState === "inmigrate") vm.parts.autostart = true;
      else vm.parts.run.start();
      return nothing;
    }),
    quit: simple((vm) => {
      vm.shutDown(false, "host-qmp-quit");
      return nothing;
    }),
    system_powerdown: simple((vm) => {
      vm.powerDown();
      return nothing;
    }),
    "query-migrate": simple(({ parts }) => parts.migration.describe()),
    "query-migrate-capabilities": simple(({ parts }) => parts.capabilities.list()),
    "query-migrate-parameters": simple(({ parts }) => parts.parameters.list()),
    "migrate-set-capabilities": {
      types: { capabilities: "array" },
      run({ parts }, { capabilities }) {
        const states = (capabilities as unknown[]).map(readCapability);
        if (parts.migration.busy && parts.migration.address === undefined)
          throw new QmpError("There's a migration process in progress");
        parts.capabilities.set(states);
        return nothing;
      },
    },
    "migrate-set-parameters": {
      types: { "*": "any" },
      run({ parts }, given) {
        parts.parameters.set(given);
        return nothing;
      },
    },
    migrate: {
      types: { ...WHERE, "detach?": "boolean", "resume?": "boolean" },
      run(vm, given) {
        if (given.resume === true) throw new QmpError("Cannot resume if there is no paused migration");
        vm.migrate(readAddress(given));
        return nothing;
      },
    },
    "migrate-incoming": {
      types: { ...WHERE, "exit-on-error?": "boolean" },
      async run(vm, given) {
        await vm.migrateIncoming(readAddress(given), given["exit-on-error"] !== false);
        return nothing;
      },
    },
    migrate_cancel: simple((vm) => {
      vm.cancelMigration();
      return nothing;
    }),
    "migrate-continue": {
      types: { state: "string" },
      run(vm, { state }) {
        const states = [
          "none",
          "setup",
          "cancelling",
          "cancelled",
          "active",
          "completed",
          "failed",
          "pre-switchover",
          "device",
          "wait-unplug",
          "colo",
          "postcopy-active",
          "postcopy-paused",
          "postcopy-recover-setup",
          "postcopy-recover",
        ] as const;
        vm.continueMigration(checkChoice(state, states, "state"));
        return nothing;
      },
    },
    "migrate-pause": simple(() => {
      throw new QmpError("migrate-pause is currently only supported during postcopy-active or postcopy-recover state");
    }, true),
    "migrate-start-postcopy": simple(() => {
      throw new QmpError("Enable postcopy with migrate_set_capability before the start of migration");
    }),
    "migrate-recover": {
      types: { uri: "string" },
      oob: true,
      run() {
        throw new QmpError("Migrate recover can only be run when postcopy is paused.");
      },
    },
  } satisfies Record<string, QmpCommand>),
);

function readCapability(given: unknown, index: number): CapabilityState {
  const where = `capabilities[${index}]`;
  const { capability, state } = checkArguments(given, { capability: "string", state: "boolean" }, where);
  return { capability: checkChoice(capability, CAPABILITIES, "capability"), state: state === true };
}
