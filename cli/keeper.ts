/**
 * A process that outlives a receiver: it is the client of a QEMU that a guest comes to by post-copy, and serves the receiver, and
 * the one that is started after it. Its arguments: QEMU's socket, its own, and the migration's journal. It says one line: `ready`,
 * or why it can't be.
 */
import { existsSync } from "node:fs";
import { QmpKeeper } from "../core/machines/qemu/keeper.ts";
import { QmpClient } from "../core/machines/qemu/qmp.ts";

for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => {});
const [qemu = "", socket = "", journal = ""] = process.argv.slice(2);
process.stdout.on("error", () => {});
try {
  const qmp = await QmpClient.connect(qemu, { signal: new AbortController().signal });
  const keeper = await QmpKeeper.start(qmp, { socket, wanted: () => existsSync(journal) });
  process.stdout.write("ready\n");
  await keeper.closed;
} catch (error) {
  process.stdout.write(`${error instanceof Error ? error.message : error}\n`);
}
process.exit(0);
