import { Console } from "node:console";
import { closeSync, openSync } from "node:fs";

export const STDOUT = 1;

/**
 * Keeps stdout for the connection: what the program or a library prints from now on goes to stderr, for a stray line
 * would break the stream. Call it before anything uses `process.stdout`: Bun then makes a duplicate of the descriptor,
 * and `closeStdout` no longer ends it.
 */
export function reserveStdout(): void {
  // On Bun an assignment, unlike a definition, doesn't make the duplicate; elsewhere the property has no setter.
  if (!Reflect.set(process, "stdout", process.stderr))
    Object.defineProperty(process, "stdout", { configurable: true, value: process.stderr });
  globalThis.console = new Console(process.stderr, process.stderr) as typeof console;
}

/**
 * Ends stdout for its reader while the process goes on. Deno holds a duplicate from its start: there the reader sees the
 * end when the process ends.
 */
export function closeStdout(): void {
  closeSync(STDOUT);
  // Takes the lowest free number, this one: otherwise the next file that is opened would be stdout.
  openSync("/dev/null", "w");
}
