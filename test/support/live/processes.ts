/** Which processes are about a folder: those that have its path in their arguments. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface Found {
  readonly pid: number;
  readonly command: string;
}

export function processesOf(folder: string): Found[] {
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      return command.includes(folder) ? [{ pid, command }] : [];
    } catch {
      return []; // It has ended meanwhile.
    }
  });
}

/** Those that are left when there should be none, after a while. */
export async function leftOf(folder: string, ms: number): Promise<Found[]> {
  for (const end = performance.now() + ms; ; await sleep(20)) {
    const found = processesOf(folder);
    if (found.length === 0 || performance.now() > end) return found;
  }
}
