/** A QEMU for the tests' own server: its settings, its guest's state and its migration, as far as they can be told from outside. */
import { Refusal, type Reply } from "../../../support/qmp-server.ts";

const raw = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON;

export interface FakeQemu {
  readonly commands: Record<string, Reply>;
  readonly capabilities: Record<string, boolean>;
  readonly parameters: Record<string, unknown>;
  /** What `query-status` and `query-migrate` say. */
  state: string;
  migration: string;
  error: string | undefined;
}

export interface FakeQemuOptions {
  readonly state?: string;
  readonly migration?: string;
  readonly parameters?: Record<string, unknown>;
  /** Capabilities can't be changed now. */
  readonly busy?: boolean;
  /** What changes when a command comes, beside what it does anyway. */
  readonly on?: Readonly<Record<string, (machine: FakeQemu, args: Record<string, unknown>) => void>>;
}

interface Capability {
  readonly capability: string;
  readonly state: boolean;
}

/** One that has the settings of QEMU 10, some changed by somebody else. */
export function fakeQemu(options: FakeQemuOptions = {}): FakeQemu {
  const { on = {} } = options;
  const machine: FakeQemu = {
    state: options.state ?? "running",
    migration: options.migration ?? "none",
    error: undefined,
    capabilities: { events: false, xbzrle: false, multifd: true, "return-path": false, "postcopy-ram": false },
    parameters: {
      "max-bandwidth": raw("9223372036854775807"),
      "downtime-limit": 300,
      "tls-creds": "creds0",
      mode: "normal",
      "avail-switchover-bandwidth": 7,
      ...options.parameters,
    },
    commands: {},
  };
  const { capabilities, parameters } = machine;
  const known = (name: string, among: object) => {
    if (!Object.hasOwn(among, name)) throw new Refusal(`Parameter '${name}' is unexpected`);
  };
  const own: Record<string, (args: Record<string, unknown>) => Reply> = {
    "query-status": () => ({ status: machine.state, running: machine.state === "running" }),
    "query-migrate": () => ({
      ...(machine.migration !== "none" && { status: machine.migration }),
      ...(machine.error !== undefined && { "error-desc": machine.error }),
    }),
    "query-migrate-capabilities": () =>
      Object.entries(capabilities).map(([capability, state]) => ({ capability, state })),
    "query-migrate-parameters": () => parameters,
    "migrate-set-capabilities": (args) => {
      if (options.busy) throw new Refusal("There's a migration process in progress");
      for (const { capability, state } of args.capabilities as Capability[]) {
        known(capability, capabilities);
        capabilities[capability] = state;
      }
      return {};
    },
    "migrate-set-parameters": (args) => {
      for (const name of Object.keys(args)) known(name, parameters);
      Object.assign(parameters, args);
      return {};
    },
    cont: () => {
      if (machine.state === "finish-migrate") throw new Refusal("Migration is not finalized yet");
      if (machine.state === "shutdown") throw new Refusal("Resetting the Virtual Machine is required");
      machine.state = "running";
      return {};
    },
    stop: () => {
      if (machine.state === "running") machine.state = "paused";
      return {};
    },
  };
  for (const command of ["migrate", "migrate_cancel", "migrate-continue", "migrate-incoming"])
    own[command] = () => ({});
  for (const command of ["migrate-start-postcopy", "migrate-pause", "migrate-recover"]) own[command] = () => ({});
  for (const [command, reply] of Object.entries(own)) {
    machine.commands[command] = (args: Record<string, unknown>) => {
      on[command]?.(machine, args);
      return reply(args);
    };
  }
  return machine;
}
