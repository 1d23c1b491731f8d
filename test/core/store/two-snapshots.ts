/** A store of two snapshots that share pages, and what damage does to them. */
import type { VerifyReport } from "../../../core/site/verify-store.ts";
import { machine, range, type TestStore } from "./stores.ts";

export const machines: Record<string, Buffer> = { old: machine(...range(0, 300)), new: machine(...range(200, 600)) };

/** "old" is in two groups of up to 256, and what "new" adds in two more. */
export async function twoSnapshots(store: TestStore): Promise<void> {
  for (const [name, bytes] of Object.entries(machines)) await store.keep(name, bytes);
}

/** Names of what is harmed, as verify says. */
export function harmed({ needs }: VerifyReport): string[] {
  return needs.filter(({ lacking, damaged, error }) => error || lacking + damaged > 0).map(({ name }) => name);
}

/** Names of snapshots that don't come back as they were. */
export async function broken(store: TestStore): Promise<string[]> {
  const names: string[] = [];
  for (const [name, bytes] of Object.entries(machines)) if (!(await store.restores(name, bytes))) names.push(name);
  return names;
}
