/** What may never have been, in the histories of a guest's VMs. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { LiveVm } from "./vm.ts";

/** The times at which a guest ran on two VMs, as sentences. */
export function twoAtOnce(vms: readonly LiveVm[]): string[] {
  const changes = vms.flatMap((vm) => vm.changes().map((change) => ({ ...change, vm }))).sort((a, b) => a.at - b.at);
  const running = new Set<LiveVm>();
  const wrong: string[] = [];
  for (const { runs, vm, at } of changes) {
    if (runs) running.add(vm);
    else running.delete(vm);
    if (running.size > 1)
      wrong.push(`"${vm.guest}" ran at ${[...running].map(({ end }) => end).join(" and ")} at ${at}`);
  }
  return wrong;
}

/** Phases of a state folder's journals, sorted, and all files there are about them. */
export function journals(state: string): { readonly phases: string; readonly files: readonly string[] } {
  const folder = join(state, "migrations");
  const phases: string[] = [];
  let files: string[] = [];
  try {
    files = readdirSync(folder);
    for (const name of files)
      if (name.endsWith(".json")) phases.push(JSON.parse(readFileSync(join(folder, name), "utf8")).phase);
  } catch {
    // There was none, or it goes just now.
  }
  return { phases: phases.sort().join(), files };
}
