import { spawn } from "node:child_process";
import { join } from "node:path";
import { scriptCommand } from "../core/runtime.ts";

/**
 * Starts the process that has guests go on if this one dies (cli/guardian.ts).
 * @param ids the migrations that it watches over
 * @returns what ends it: to be called when no guest is under way any more
 */
export function startGuardian(state: string, ids: readonly string[]): () => void {
  const [program, ...first] = scriptCommand;
  const child = spawn(program, [...first, join(import.meta.dirname, "guardian.ts"), state, ...ids], {
    // Its input ends with this process, however that ends.
    stdio: ["pipe", "ignore", "ignore"],
    // A signal from the terminal is for this process alone.
    detached: true,
  });
  child.on("error", () => {});
  child.stdin.on("error", () => {});
  child.unref();
  return () => child.stdin.end();
}
