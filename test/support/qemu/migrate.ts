/** The two ends of a migration of QEMU's own, which the tests put something between. */
import type { Qmp } from "./qmp.ts";
import type { Vm } from "./vm.ts";

export interface MigrateOptions {
  /** QEMU's limit in bytes a second; its default of about 150 MB/s makes fast links look slow. */
  readonly bandwidth?: number;
  /** Without it a source says `completed` though nobody may have loaded the guest; a file cannot answer, so there it is off. */
  readonly returnPath?: boolean;
}

/** Runs the command that starts a migration, and waits until that one has ended. */
async function ended(qmp: Qmp, command: string, uri: string): Promise<void> {
  const before = qmp.events;
  await qmp.execute(command, { uri });
  const isEnd = ({ status }: Record<string, unknown>) => status === "completed" || status === "failed";
  const { data } = await qmp.event("MIGRATION", isEnd, before);
  if (data.status === "completed") return;
  const { "error-desc": reason } = await qmp.execute<{ "error-desc"?: string }>("query-migrate");
  throw new Error(`QEMU's migration failed: ${reason ?? "it gave no reason"}`);
}

const capabilities = (wanted: Record<string, boolean>) => ({
  capabilities: Object.entries(wanted).map(([capability, state]) => ({ capability, state })),
});

/** Sends the running guest to `uri` (`file:`, `unix:`, `tcp:`, `exec:`) and waits until it is there; it stops here at the end. */
export async function migrate({ qmp }: Vm, uri: string, options: MigrateOptions = {}): Promise<void> {
  const { bandwidth = 2 ** 33, returnPath = !/^(file|exec):/.test(uri) } = options;
  await qmp.execute("migrate-set-capabilities", capabilities({ events: true, "return-path": returnPath }));
  await qmp.execute("migrate-set-parameters", { "max-bandwidth": bandwidth });
  await ended(qmp, "migrate", uri);
}

/** Takes a guest in from `uri` and waits until it runs. */
export async function receive({ qmp }: Vm, uri: string): Promise<void> {
  await qmp.execute("migrate-set-capabilities", capabilities({ events: true }));
  await ended(qmp, "migrate-incoming", uri);
  await qmp.event("RESUME");
}
