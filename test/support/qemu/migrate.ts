/** The two ends of a migration of QEMU's own, which the tests put something between. */
import type { Vm } from "./vm.ts";

export interface MigrateOptions {
  /** QEMU's limit in bytes a second; its default of about 150 MB/s makes fast links look slow. */
  readonly bandwidth?: number;
  /** Without it a source says `completed` though nobody may have loaded the guest; a file cannot answer, so there it is off. */
  readonly returnPath?: boolean;
}

/** Turns capabilities of QEMU's migration on or off, and sets its parameters. */
export async function configure(
  { qmp }: Pick<Vm, "qmp">,
  wanted: Readonly<Record<string, boolean>>,
  parameters: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const capabilities = Object.entries(wanted).map(([capability, state]) => ({ capability, state }));
  await qmp.execute("migrate-set-capabilities", { capabilities });
  await qmp.execute("migrate-set-parameters", parameters);
}

/** Runs the command that starts a migration; what it returns waits until that one has ended. */
export async function begin(
  { qmp }: Pick<Vm, "qmp">,
  command: "migrate" | "migrate-incoming",
  uri: string,
): Promise<() => Promise<void>> {
  const before = qmp.events;
  await qmp.execute(command, { uri });
  return async () => {
    const isEnd = ({ status }: Record<string, unknown>) => status === "completed" || status === "failed";
    const { data } = await qmp.event("MIGRATION", isEnd, before);
    if (data.status === "completed") return;
    const { "error-desc": reason } = await qmp.execute<{ "error-desc"?: string }>("query-migrate");
    throw new Error(`QEMU's migration failed: ${reason ?? "it gave no reason"}`);
  };
}

/** Sends the running guest to `uri` (`file:`, `unix:`, `tcp:`, `exec:`) and waits until it is there; it stops here at the end. */
export async function migrate(vm: Pick<Vm, "qmp">, uri: string, options: MigrateOptions = {}): Promise<void> {
  const { bandwidth = 2 ** 33, returnPath = !/^(file|exec):/.test(uri) } = options;
  await configure(vm, { events: true, "return-path": returnPath }, { "max-bandwidth": bandwidth });
  const ended = await begin(vm, "migrate", uri);
  await ended();
}

/** Takes a guest in from `uri` and waits until it runs. */
export async function receive(vm: Pick<Vm, "qmp">, uri: string): Promise<void> {
  await configure(vm, { events: true });
  const ended = await begin(vm, "migrate-incoming", uri);
  await ended();
  await vm.qmp.event("RESUME");
}
