/**
 * A process that outlives the one that moves guests: it waits until that has ended, which closes its standard input, and has
 * the guests go on that were not given away. Its arguments: the state folder, and the numbers of the migrations.
 */
import { guard } from "../core/handover/source/guardian.ts";

for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => {});
const [state, ...ids] = process.argv.slice(2);
process.stdin.on("error", () => {});
for await (const _ of process.stdin);
if (state !== undefined) await guard(state, ids);
process.exit(0);
